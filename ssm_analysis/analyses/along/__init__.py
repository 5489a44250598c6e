"""Time-varying systems along an input: what each moment, and the product of all of them, does to the state."""

from ssm_analysis.analyses.along.attention import contributions as contributions
from ssm_analysis.analyses.along.attention import hidden_attention as hidden_attention
from ssm_analysis.analyses.along.attention import mean_distance as mean_distance
from ssm_analysis.analyses.along.exponents import bohl_exponents as bohl_exponents
from ssm_analysis.analyses.along.exponents import lyapunov_exponents as lyapunov_exponents
from ssm_analysis.analyses.along.forgetting import receptive_field as receptive_field
from ssm_analysis.analyses.along.forgetting import retention as retention
from ssm_analysis.analyses.along.frozen_response import FrozenResponse as FrozenResponse
from ssm_analysis.analyses.along.frozen_response import frozen_response as frozen_response
from ssm_analysis.analyses.along.gain import EnergyGain as EnergyGain
from ssm_analysis.analyses.along.gain import energy_gain as energy_gain
from ssm_analysis.analyses.along.gramians import controllability_gramian_at as controllability_gramian_at
from ssm_analysis.analyses.along.gramians import hsv_at as hsv_at
from ssm_analysis.analyses.along.gramians import observability_gramian_at as observability_gramian_at
from ssm_analysis.analyses.along.growth import StateGrowth as StateGrowth
from ssm_analysis.analyses.along.growth import state_growth as state_growth
from ssm_analysis.analyses.along.poles import EffectivePoles as EffectivePoles
from ssm_analysis.analyses.along.poles import effective_poles as effective_poles
from ssm_analysis.analyses.along.poles import joined_channels as joined_channels
from ssm_analysis.analyses.along.poles import joined_tokens as joined_tokens
from ssm_analysis.analyses.along.poles import quantiles as quantiles
from ssm_analysis.analyses.along.state_size import EffectiveStateSize as EffectiveStateSize
from ssm_analysis.analyses.along.state_size import effective_state_size as effective_state_size
from ssm_analysis.analyses.along.transitions import adjoint_system as adjoint_system
from ssm_analysis.analyses.along.transitions import driven_by as driven_by
from ssm_analysis.analyses.along.transitions import log_transition as log_transition
