"""How far a matrix is from normal, and what its eigenvalues therefore leave out."""

from ssm_analysis.analyses.nonnormal.conditions import EigenvalueConditions as EigenvalueConditions
from ssm_analysis.analyses.nonnormal.conditions import KreissConstant as KreissConstant
from ssm_analysis.analyses.nonnormal.conditions import TransientGrowth as TransientGrowth
from ssm_analysis.analyses.nonnormal.conditions import eigenvalue_conditions as eigenvalue_conditions
from ssm_analysis.analyses.nonnormal.conditions import eigenvector_condition as eigenvector_condition
from ssm_analysis.analyses.nonnormal.conditions import kreiss_constant as kreiss_constant
from ssm_analysis.analyses.nonnormal.conditions import transient_growth as transient_growth
from ssm_analysis.analyses.nonnormal.numerical_range import numerical_abscissa as numerical_abscissa
from ssm_analysis.analyses.nonnormal.numerical_range import numerical_radius as numerical_radius
from ssm_analysis.analyses.nonnormal.pseudospectra import Pseudospectrum as Pseudospectrum
from ssm_analysis.analyses.nonnormal.pseudospectra import dplr_resolvent_norm as dplr_resolvent_norm
from ssm_analysis.analyses.nonnormal.pseudospectra import pseudospectrum as pseudospectrum
from ssm_analysis.analyses.nonnormal.pseudospectra import resolvent_norm as resolvent_norm
