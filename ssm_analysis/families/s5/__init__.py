"""S5: one diagonal system with many inputs and outputs."""

from ssm_analysis.families.base import Features, TimeInvariantFamily
from ssm_analysis.families.s5 import model
from ssm_analysis.families.s5.certificate import certify
from ssm_analysis.families.s5.facts import FACTS
from ssm_analysis.families.s5.layouts import LAYOUTS
from ssm_analysis.families.s5.options import Options

FAMILY = TimeInvariantFamily(
    name="s5",
    title="S5",
    paper="arXiv 2208.04933",
    features=Features(
        dynamics="LTI",
        channels="MIMO",
        parametrization="complex diagonal, Re unconstrained unless clipped",
        discretization="zero-order hold",
        structure="complex diagonal",
        initialization="blocks of the normal part of HiPPO-LegS; steps log-uniform in [1e-3, 1e-1], one per state",
        implementation="parallel (associative) scan",
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
