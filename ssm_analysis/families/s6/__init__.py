"""S6, the selective layer of Mamba, and its relatives."""

from ssm_analysis.families.base import Features, SelectiveFamily
from ssm_analysis.families.s6 import model
from ssm_analysis.families.s6.certificate import certify
from ssm_analysis.families.s6.facts import FACTS
from ssm_analysis.families.s6.layouts import LAYOUTS
from ssm_analysis.families.s6.options import Options

FAMILY = SelectiveFamily(
    name="s6",
    title="S6 (Mamba)",
    paper="arXiv 2312.00752",
    features=Features(
        dynamics="LTV: step, B, C depend on the input",
        channels="one system per inner channel, B and C shared",
        parametrization="real diagonal, -exp(A_log)",
        discretization="zero-order hold for A, Euler for B",
        structure="real diagonal",
        initialization="A = -(1..N); steps log-uniform in [1e-3, 1e-1], through the bias",
        implementation="fused scan",
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
