"""Batched linear systems: what the analyses are functions of.

Inside the package time runs as in control: ``x[k+1] = A x[k] + B u[k]``, ``y[k] = C x[k] + D u[k]``, ``x[0] = 0``.
"""

from ssm_analysis.systems import discretization as discretization
from ssm_analysis.systems.dense import StateSpace as StateSpace
from ssm_analysis.systems.diagonal import DiagonalSSM as DiagonalSSM
from ssm_analysis.systems.real_diagonal import RealDiagonalSSM as RealDiagonalSSM
from ssm_analysis.systems.time_varying import DiagonalLTV as DiagonalLTV
from ssm_analysis.systems.time_varying import DiagonalRecurrence as DiagonalRecurrence

LTI = DiagonalSSM | RealDiagonalSSM | StateSpace
"""A time-invariant system."""
