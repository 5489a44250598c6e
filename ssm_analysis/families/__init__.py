"""The model classes of the literature, one folder each; a folder that defines ``FAMILY`` is a family, and nothing is registered."""

from ssm_analysis.families.base import FAMILIES as FAMILIES
from ssm_analysis.families.base import PAPER as PAPER
from ssm_analysis.families.base import Assumption as Assumption
from ssm_analysis.families.base import Families as Families
from ssm_analysis.families.base import Family as Family
from ssm_analysis.families.base import Features as Features
from ssm_analysis.families.base import Layer as Layer
from ssm_analysis.families.base import SelectiveFamily as SelectiveFamily
from ssm_analysis.families.base import TimeInvariantFamily as TimeInvariantFamily
