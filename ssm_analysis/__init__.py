"""Control theory for neural state-space models.

A family (S4, S4D, S5, LRU, S6, RG-LRU) makes layers, a layer is exported to a linear system, and every
analysis is a function of systems.
"""

from ssm_analysis import discretization as discretization
from ssm_analysis import plots as plots
from ssm_analysis.families import FAMILIES as FAMILIES
from ssm_analysis.layer import Assumption as Assumption
from ssm_analysis.layer import Layer as Layer
from ssm_analysis.memory import Memory as Memory
from ssm_analysis.memory import memory as memory
from ssm_analysis.modes import decay_rates as decay_rates
from ssm_analysis.modes import margins as margins
from ssm_analysis.modes import poles as poles
from ssm_analysis.modes import spectral_radius as spectral_radius
from ssm_analysis.modes import time_constants as time_constants
from ssm_analysis.responses import frequency_response as frequency_response
from ssm_analysis.simulation import simulate as simulate
from ssm_analysis.spectrum import Spectrum as Spectrum
from ssm_analysis.systems import DiagonalLTV as DiagonalLTV
from ssm_analysis.systems import DiagonalRecurrence as DiagonalRecurrence
from ssm_analysis.systems import DiagonalSSM as DiagonalSSM
from ssm_analysis.systems import RealDiagonalSSM as RealDiagonalSSM
from ssm_analysis.systems import StateSpace as StateSpace

__version__ = "0.1.0"
