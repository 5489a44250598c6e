"""Energies of inputs and states: Gramians, their factors, Hankel singular values, the energy of the kernel."""

from ssm_analysis.analyses.gramians.energy import energy_beyond as energy_beyond
from ssm_analysis.analyses.gramians.energy import horizon as horizon
from ssm_analysis.analyses.gramians.energy import kernel_energy as kernel_energy
from ssm_analysis.analyses.gramians.factors import controllability_factor as controllability_factor
from ssm_analysis.analyses.gramians.factors import gramian_factors as gramian_factors
from ssm_analysis.analyses.gramians.factors import observability_factor as observability_factor
from ssm_analysis.analyses.gramians.gramians import controllability_gramian as controllability_gramian
from ssm_analysis.analyses.gramians.gramians import observability_gramian as observability_gramian
from ssm_analysis.analyses.gramians.gramians import solve_stein as solve_stein
from ssm_analysis.analyses.gramians.hankel import hankel_norm as hankel_norm
from ssm_analysis.analyses.gramians.hankel import hsv as hsv
