"""Mamba-2 and its relatives: one scalar decay for each head."""

from ssm_analysis.families.base import Features, SelectiveFamily
from ssm_analysis.families.mamba2 import model
from ssm_analysis.families.mamba2.certificate import certify
from ssm_analysis.families.mamba2.facts import FACTS
from ssm_analysis.families.mamba2.layouts import LAYOUTS
from ssm_analysis.families.mamba2.options import Options

FAMILY = SelectiveFamily(
    name="mamba2",
    title="Mamba-2 (SSD)",
    paper="arXiv 2405.21060",
    features=Features(
        dynamics="LTV: step, B, C depend on the input",
        channels="one system per channel, step and pole shared by a head, B and C by a group of heads",
        parametrization="real scalar per head, -exp(A_log)",
        discretization="zero-order hold for A, Euler for B",
        structure="scalar times identity",
        initialization="-A uniform on [1, 16]; steps log-uniform in [1e-3, 1e-1], through the bias",
        implementation="matrix products in chunks (SSD)",
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
