"""Control theory for neural state-space models.

A family (S4, S4D, S5, LRU, S6, RG-LRU) makes layers, a layer is exported to a linear system, and every
analysis is a function of systems.
"""

from ssm_analysis.responses import frequency_response as frequency_response
from ssm_analysis.simulation import simulate as simulate
from ssm_analysis.systems import DiagonalLTV as DiagonalLTV
from ssm_analysis.systems import DiagonalRecurrence as DiagonalRecurrence
from ssm_analysis.systems import DiagonalSSM as DiagonalSSM
from ssm_analysis.systems import RealDiagonalSSM as RealDiagonalSSM
from ssm_analysis.systems import StateSpace as StateSpace

__version__ = "0.1.0"
