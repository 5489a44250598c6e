"""Control theory for neural state-space models.

A family (S4, S4D, S5, LRU, S6, RG-LRU) makes layers, a layer is exported to a linear system, and every
analysis is a function of systems.
"""

from ssm_analysis import discretization as discretization
from ssm_analysis import plots as plots
from ssm_analysis.damping import Damping as Damping
from ssm_analysis.damping import damp as damp
from ssm_analysis.discretization_audit import DiscretizationAudit as DiscretizationAudit
from ssm_analysis.discretization_audit import discretization_audit as discretization_audit
from ssm_analysis.families import FAMILIES as FAMILIES
from ssm_analysis.gain_features import Resonances as Resonances
from ssm_analysis.gain_features import bandwidth as bandwidth
from ssm_analysis.gain_features import dcgain as dcgain
from ssm_analysis.gain_features import resonances as resonances
from ssm_analysis.gramians import controllability_factor as controllability_factor
from ssm_analysis.gramians import controllability_gramian as controllability_gramian
from ssm_analysis.gramians import hankel_norm as hankel_norm
from ssm_analysis.gramians import hsv as hsv
from ssm_analysis.gramians import observability_factor as observability_factor
from ssm_analysis.gramians import observability_gramian as observability_gramian
from ssm_analysis.gramians import solve_stein as solve_stein
from ssm_analysis.kernel_energy import energy_beyond as energy_beyond
from ssm_analysis.kernel_energy import horizon as horizon
from ssm_analysis.layer import Assumption as Assumption
from ssm_analysis.layer import Layer as Layer
from ssm_analysis.memory import Memory as Memory
from ssm_analysis.memory import memory as memory
from ssm_analysis.memory_curves import delay_fidelity as delay_fidelity
from ssm_analysis.memory_curves import effective_order as effective_order
from ssm_analysis.memory_curves import memory_function as memory_function
from ssm_analysis.modes import decay_rates as decay_rates
from ssm_analysis.modes import margins as margins
from ssm_analysis.modes import poles as poles
from ssm_analysis.modes import spectral_radius as spectral_radius
from ssm_analysis.modes import time_constants as time_constants
from ssm_analysis.regularisers import h2_norm_squared as h2_norm_squared
from ssm_analysis.regularisers import hankel_nuclear_norm as hankel_nuclear_norm
from ssm_analysis.regularisers import margin_penalty as margin_penalty
from ssm_analysis.regularisers import modal_l1 as modal_l1
from ssm_analysis.responses import frequency_response as frequency_response
from ssm_analysis.simulation import simulate as simulate
from ssm_analysis.spectrum import Spectrum as Spectrum
from ssm_analysis.systems import DiagonalLTV as DiagonalLTV
from ssm_analysis.systems import DiagonalRecurrence as DiagonalRecurrence
from ssm_analysis.systems import DiagonalSSM as DiagonalSSM
from ssm_analysis.systems import RealDiagonalSSM as RealDiagonalSSM
from ssm_analysis.systems import StateSpace as StateSpace
from ssm_analysis.time_responses import impulse_response as impulse_response
from ssm_analysis.time_responses import markov_parameters as markov_parameters
from ssm_analysis.time_responses import step_response as step_response

__version__ = "0.1.0"
