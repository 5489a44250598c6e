"""LRU: a linear recurrent unit with a diagonal complex state and no step size."""

from ssm_analysis.families.lru.model import FAMILY as FAMILY
