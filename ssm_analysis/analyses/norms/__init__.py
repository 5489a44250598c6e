"""How much a system amplifies: H2, H-infinity and l1 norms with certified bounds, DC gain, bandwidth, resonances."""

from ssm_analysis.analyses.norms import losses as losses
from ssm_analysis.analyses.norms.bode_features import Resonances as Resonances
from ssm_analysis.analyses.norms.bode_features import bandwidth as bandwidth
from ssm_analysis.analyses.norms.bode_features import dcgain as dcgain
from ssm_analysis.analyses.norms.bode_features import resonances as resonances
from ssm_analysis.analyses.norms.l1 import l1_bounds as l1_bounds
from ssm_analysis.analyses.norms.l1 import l1_norm as l1_norm
from ssm_analysis.analyses.norms.system_norms import Bounds as Bounds
from ssm_analysis.analyses.norms.system_norms import PeakGain as PeakGain
from ssm_analysis.analyses.norms.system_norms import h2_norm as h2_norm
from ssm_analysis.analyses.norms.system_norms import hinf_bounds as hinf_bounds
from ssm_analysis.analyses.norms.system_norms import hinf_norm as hinf_norm
from ssm_analysis.analyses.norms.system_norms import hinf_peak as hinf_peak
