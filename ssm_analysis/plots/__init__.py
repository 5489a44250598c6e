"""Pictures of what the analyses return. matplotlib is imported when a picture is drawn, not before."""

from ssm_analysis.plots.disk import stretch as stretch
from ssm_analysis.plots.disk import unit_disk as unit_disk
