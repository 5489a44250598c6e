"""S4D: one diagonal system per feature."""

from ssm_analysis.families.s4d.model import FAMILY as FAMILY
