"""How far back a system remembers: Lemma 2.2 of arXiv 2403.16899, memory curves, effective order."""

from ssm_analysis.analyses.memory import memory_curves as memory_curves
from ssm_analysis.analyses.memory.lemma import Memory as Memory
from ssm_analysis.analyses.memory.lemma import memory as memory
