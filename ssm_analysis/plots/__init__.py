"""Pictures of what the analyses return. matplotlib is imported when a picture is drawn, not before."""

from ssm_analysis.plots.curves import bode as bode
from ssm_analysis.plots.curves import hsv as hsv
from ssm_analysis.plots.curves import impulse as impulse
from ssm_analysis.plots.curves import memory as memory
from ssm_analysis.plots.disk import stretch as stretch
from ssm_analysis.plots.disk import unit_disk as unit_disk
from ssm_analysis.plots.selective import attention_map as attention_map
from ssm_analysis.plots.selective import openness_map as openness_map
from ssm_analysis.plots.selective import poles_along_tokens as poles_along_tokens
from ssm_analysis.plots.selective import retention_curves as retention_curves
from ssm_analysis.plots.selective import state_norms as state_norms
from ssm_analysis.plots.selective import time_constant_histograms as time_constant_histograms
