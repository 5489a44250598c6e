"""Where the eigenvalues lie, and how exactly they can be known."""

from ssm_analysis.analyses.spectrum.damping import Damping as Damping
from ssm_analysis.analyses.spectrum.damping import damp as damp
from ssm_analysis.analyses.spectrum.diagonalization import Diagonalization as Diagonalization
from ssm_analysis.analyses.spectrum.diagonalization import diagonalized as diagonalized
from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum as Spectrum
from ssm_analysis.analyses.spectrum.modes import decay_rates as decay_rates
from ssm_analysis.analyses.spectrum.modes import margins as margins
from ssm_analysis.analyses.spectrum.modes import poles as poles
from ssm_analysis.analyses.spectrum.modes import spectral_radius as spectral_radius
from ssm_analysis.analyses.spectrum.modes import time_constants as time_constants
