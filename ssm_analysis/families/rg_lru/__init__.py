"""RG-LRU, the gated linear recurrence of Griffin, Hawk and RecurrentGemma."""

from ssm_analysis.families.base import Features, SelectiveFamily
from ssm_analysis.families.rg_lru import model
from ssm_analysis.families.rg_lru.certificate import certify
from ssm_analysis.families.rg_lru.facts import FACTS
from ssm_analysis.families.rg_lru.layouts import LAYOUTS
from ssm_analysis.families.rg_lru.options import Options

FAMILY = SelectiveFamily(
    name="rg_lru",
    title="RG-LRU",
    paper="arXiv 2402.19427",
    features=Features(
        dynamics="LTV: decay and input gain depend on the input",
        channels="one state per channel, gates mix channels",
        parametrization="none: a = exp(-8 softplus(L) sigmoid(gate))",
        discretization="none",
        structure="real diagonal",
        initialization="a in [0.9, 0.999] (of a, or of a^8: the two public implementations differ)",
        implementation="linear scan",
    ),
    options=Options,
    init=model.init,
    along=model.along,
    windows=model.windows,
    core_input=model.core_input,
    reference=model.reference,
    at_bias=model.at_bias,
    layouts=LAYOUTS,
    facts=FACTS,
    certificate=certify,
)
