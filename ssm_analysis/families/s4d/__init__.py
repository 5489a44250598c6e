"""S4D: one diagonal system per feature."""

from ssm_analysis.families.base import Features, TimeInvariantFamily
from ssm_analysis.families.s4d import model
from ssm_analysis.families.s4d.certificate import certify
from ssm_analysis.families.s4d.facts import FACTS
from ssm_analysis.families.s4d.layouts import LAYOUTS
from ssm_analysis.families.s4d.options import Options

FAMILY = TimeInvariantFamily(
    name="s4d",
    title="S4D",
    paper="arXiv 2206.11893",
    features=Features(
        dynamics="LTI",
        channels="SISO, one copy per feature",
        parametrization="complex diagonal, Re = -exp(.)",
        discretization="zero-order hold (bilinear optional)",
        structure="complex diagonal",
        initialization="LegS / Inv / Lin; steps log-uniform in [1e-3, 1e-1]",
        implementation="FFT convolution, Vandermonde kernel",
    ),
    options=Options,
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
