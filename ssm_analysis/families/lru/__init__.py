"""LRU: a linear recurrent unit with a diagonal complex state and no step size."""

from ssm_analysis.families.base import Features, TimeInvariantFamily
from ssm_analysis.families.lru import model
from ssm_analysis.families.lru.certificate import certify
from ssm_analysis.families.lru.facts import FACTS
from ssm_analysis.families.lru.layouts import LAYOUTS
from ssm_analysis.families.shared.options import NoOptions

FAMILY = TimeInvariantFamily(
    name="lru",
    title="LRU",
    paper="arXiv 2303.06349",
    features=Features(
        dynamics="LTI",
        channels="MIMO",
        parametrization="none: lambda = exp(-exp(nu) + i exp(theta))",
        discretization="none",
        structure="complex diagonal",
        initialization="uniform on a ring r_min..r_max, phase up to max_phase; input scaled by sqrt(1 - |lambda|^2)",
        implementation="parallel scan",
    ),
    options=NoOptions,
    init=model.init,
    system=model.system,
    core_input=model.core_input,
    reference=model.reference,
    spectrum=model.spectrum,
    initial_spectrum=model.spectrum,
    layouts=LAYOUTS,
    facts=FACTS,
    certificate=certify,
)
