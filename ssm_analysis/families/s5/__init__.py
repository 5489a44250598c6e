"""S5: one diagonal system with many inputs and outputs."""

from ssm_analysis.families.s5.model import FAMILY as FAMILY
