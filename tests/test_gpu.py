"""The same numbers on a GPU as on the CPU, and nothing silently brought back; skipped where there is no GPU."""

import numpy as np
import pytest
import torch

import ssm_analysis as ssm

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

INVARIANT = {
    "poles": ssm.poles,
    "spectral_radius": ssm.spectral_radius,
    "time_constants": ssm.time_constants,
    "frequency_response": lambda sys: ssm.frequency_response(sys, torch.linspace(-3, 3, 33, dtype=torch.float64, device=sys.B.device)),
    "markov_parameters": lambda sys: ssm.markov_parameters(sys, 50),
    "step_response": lambda sys: ssm.step_response(sys, 50),
    "h2_norm": ssm.h2_norm,
    "hinf_norm": ssm.hinf_norm,
    "hankel_norm": ssm.hankel_norm,
    "l1_norm": ssm.l1_norm,
    "hsv": ssm.hsv,
    "controllability_gramian": ssm.controllability_gramian,
    "horizon": ssm.horizon,
    "effective_order": ssm.effective_order,
    "energy_beyond": lambda sys: ssm.gramians.energy_beyond(sys, (1, 10, 100)),
    "dcgain": ssm.dcgain,
    "damping": lambda sys: ssm.damp(sys).damping,
}
LTI = [name for name, family in ssm.FAMILIES.items() if not family.init(d_model=4).time_varying]


def system(name, device):
    layer = ssm.FAMILIES[name].init(d_model=4, d_state=8, seed=3)
    return layer.map(lambda x: torch.tensor(x, device=device)).system()


@pytest.mark.parametrize("analysis", INVARIANT)
@pytest.mark.parametrize("family", LTI)
def test_analyses_agree_with_the_cpu(family, analysis):
    found = INVARIANT[analysis](system(family, "cuda"))
    assert found.device.type == "cuda"
    expected = INVARIANT[analysis](system(family, "cpu"))
    if analysis == "poles" and family == "s4":  # in whatever order, as well as 64 bits can
        found, expected = (torch.sort(x.abs(), dim=-1).values for x in (found, expected))
    np.testing.assert_allclose(found.cpu().numpy(), expected.numpy(), rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("family", ssm.FAMILIES)
def test_simulation_and_gradients_agree_with_the_cpu(family):
    gradients = {}
    for device in ("cpu", "cuda"):
        layer = ssm.FAMILIES[family].init(d_model=4, seed=3).map(lambda x, d=device: torch.tensor(x, device=d, requires_grad=True))
        u = torch.tensor(np.random.default_rng(0).standard_normal((40, 4)), device=device)
        sys = layer.along(u) if layer.time_varying else layer.system()
        y = ssm.simulate(sys, layer.core_input(u))
        assert y.device.type == device
        y.square().sum().backward()
        gradients[device] = {name: x.grad.cpu().numpy() for name, x in layer.params.items() if x.grad is not None}
    assert gradients["cpu"].keys() == gradients["cuda"].keys()
    for name, expected in gradients["cpu"].items():
        scale = max(float(np.max(np.abs(expected))), 1e-300)
        np.testing.assert_allclose(gradients["cuda"][name] / scale, expected / scale, atol=1e-9)


def test_fields_on_two_devices_are_refused():
    one = torch.ones(1, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match="one device"):
        ssm.DiagonalSSM(log_poles=-one[0], B=one.cuda(), C=one, D=one)
