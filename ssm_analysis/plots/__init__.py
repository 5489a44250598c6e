"""Pictures of what the analyses return. matplotlib is imported when a picture is drawn, not before."""

from ssm_analysis.plots.curves import bode as bode
from ssm_analysis.plots.curves import hsv as hsv
from ssm_analysis.plots.curves import impulse as impulse
from ssm_analysis.plots.curves import memory as memory
from ssm_analysis.plots.disk import stretch as stretch
from ssm_analysis.plots.disk import unit_disk as unit_disk
