"""S4: one system per feature, its state matrix diagonal minus low rank (DPLR)."""

from ssm_analysis.families.base import Features, TimeInvariantFamily
from ssm_analysis.families.s4 import model
from ssm_analysis.families.s4.certificate import certify
from ssm_analysis.families.s4.facts import FACTS
from ssm_analysis.families.s4.layouts import LAYOUTS
from ssm_analysis.families.s4.options import Options

FAMILY = TimeInvariantFamily(
    name="s4",
    title="S4",
    paper="arXiv 2111.00396",
    features=Features(
        dynamics="LTI",
        channels="SISO, one copy per feature",
        parametrization="diagonal minus low rank, Re Lambda = -exp(.)",
        discretization="bilinear",
        structure="DPLR (diagonal minus low rank)",
        initialization="HiPPO-LegS; steps log-uniform in [1e-3, 1e-1]",
        implementation="FFT convolution, Cauchy kernel",
    ),
    options=Options,
    init=model.init,
    system=model.system,
    core_input=model.core_input,
    reference=model.reference,
    spectrum=model.spectrum,
    initial_spectrum=model.initial_spectrum,
    layouts=LAYOUTS,
    facts=FACTS,
    certificate=certify,
)
