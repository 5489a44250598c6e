"""Energies of inputs and states: Gramians, their factors, Hankel singular values, the energy of the kernel."""

from ssm_analysis.analyses.gramians.gramians import controllability_factor as controllability_factor
from ssm_analysis.analyses.gramians.gramians import controllability_gramian as controllability_gramian
from ssm_analysis.analyses.gramians.gramians import hankel_norm as hankel_norm
from ssm_analysis.analyses.gramians.gramians import hsv as hsv
from ssm_analysis.analyses.gramians.gramians import observability_factor as observability_factor
from ssm_analysis.analyses.gramians.gramians import observability_gramian as observability_gramian
from ssm_analysis.analyses.gramians.gramians import solve_stein as solve_stein
from ssm_analysis.analyses.gramians.kernel_energy import energy_beyond as energy_beyond
from ssm_analysis.analyses.gramians.kernel_energy import horizon as horizon
