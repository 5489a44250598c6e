"""S4: one system per feature, its state matrix diagonal minus low rank (DPLR)."""

from ssm_analysis.families.s4.model import FAMILY as FAMILY
