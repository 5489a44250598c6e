"""RG-LRU, the gated linear recurrence of Griffin, Hawk and RecurrentGemma."""

from ssm_analysis.families.rg_lru.model import FAMILY as FAMILY
