"""S6, the selective layer of Mamba, and its relatives."""

from ssm_analysis.families.s6.model import FAMILY as FAMILY
