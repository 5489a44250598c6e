"""Mamba-2 and its relatives: one scalar decay for each head."""

from ssm_analysis.families.mamba2.model import FAMILY as FAMILY
