"""Small deviations of whole blocks: finite differences, a realization of the response, the frozen system where that is all there is."""

import importlib
import re
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from ssm_analysis import frequency_response, impulse_response, load
from ssm_analysis.studies.linearization import TOGETHER, small_signal
from tests.support.torch_blocks import S4D, BiMamba, Block, Mamba, RgLru

D = 3
KEPT = {"length": 60, "settle": 300, "rtol": 1e-9}


@pytest.fixture(autouse=True)
def seeded():
    """Fresh modules of torch draw their weights from its global generator."""
    torch.manual_seed(0)


def scattered(module, seed=2, scale=0.3):
    """In 64 bits, with no parameter at a round value."""
    torch.manual_seed(seed)
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return module


def stacked():
    return nn.Sequential(Block(4, Mamba(4, 3, 2, taps=3)), Block(4, RgLru(4, 2)))


BLOCKS = {
    "mamba": (lambda: Block(D, Mamba(D, 4, 2, taps=3)), D),
    "rg_lru": (lambda: Block(4, RgLru(4, 2)), 4),
    "stacked": (stacked, 4),
}


@pytest.fixture(params=BLOCKS)
def block(request):
    make, d = BLOCKS[request.param]
    torch.manual_seed(1)
    return scattered(make()), np.random.default_rng(2).standard_normal(d)


def run(module, u):
    with torch.no_grad():
        return module(torch.tensor(u)[None])[0].numpy()


def test_it_is_the_derivative(block):
    """Central differences, whose error is of the second order."""
    module, u0 = block
    found = small_signal(module, u0, **KEPT)
    u, eps = np.tile(u0, (KEPT["settle"] + KEPT["length"], 1)), 1e-5
    for j, direction in enumerate(found.directions):
        du = np.zeros_like(u)
        du[KEPT["settle"]] = eps * direction
        want = (run(module, u + du) - run(module, u - du))[KEPT["settle"] :] / (2 * eps)
        np.testing.assert_allclose(found.impulse_response[..., j], want, atol=1e-8 * np.max(np.abs(want)))
    np.testing.assert_allclose(found.steady_output, run(module, u)[-1], rtol=1e-12)
    np.testing.assert_array_equal(found.operating_point, u0)


def test_it_is_linear(block):
    module, u0 = block
    basis = small_signal(module, u0, **KEPT)
    weights = np.random.default_rng(3).standard_normal((TOGETHER + 3, len(u0)))  # more than run together
    found = small_signal(module, torch.tensor(u0), directions=weights, **KEPT)
    np.testing.assert_allclose(found.impulse_response, basis.impulse_response @ weights.T, rtol=1e-9, atol=1e-14)
    np.testing.assert_array_equal(found.directions, weights)


def test_the_steady_gain_is_the_derivative_of_the_steady_output(block):
    module, u0 = block
    found = small_signal(module, u0, length=400, settle=300, rtol=1e-9)
    assert found.unfinished < 1e-9
    eps = 1e-5
    for j, e in enumerate(np.eye(len(u0))):
        up, down = (run(module, np.tile(u0 + sign * eps * e, (700, 1)))[-1] for sign in (1, -1))
        np.testing.assert_allclose(found.dcgain[:, j], (up - down) / (2 * eps), atol=1e-8)
    np.testing.assert_allclose(found.frequency_response[0], found.dcgain, rtol=1e-12)


def test_the_frequency_response_is_the_transform_of_the_impulse_response(block):
    module, u0 = block
    found = small_signal(module, u0, **KEPT)
    k = np.arange(KEPT["length"])
    want = np.tensordot(np.exp(-1j * np.outer(found.omega, k)), found.impulse_response, axes=1)
    np.testing.assert_allclose(found.frequency_response, want, atol=1e-13)
    np.testing.assert_allclose(found.omega[[0, -1]], [0, np.pi])


def realized(K, skip, order):
    """Eigenvalues of the system whose Markov parameters from ``skip`` on are K (Ho, Kalman 1966)."""
    rows = 25
    H, shifted = (np.block([[K[skip + d + i + j] for j in range(rows)] for i in range(rows)]) for d in (0, 1))
    U, S, V = np.linalg.svd(H)
    assert S[order] < 1e-13 * S[0], "no further pole"
    root = np.sqrt(S[:order])
    return np.linalg.eigvals((U[:, :order].T @ shifted @ V[:order].T) / np.outer(root, root))


@pytest.mark.parametrize(("name", "taps", "rtol"), [("mamba", 3, 1e-5), ("rg_lru", 1, 1e-6)])
def test_the_poles_are_the_frozen_ones_and_zero(name, taps, rtol):
    """From the response alone, without the convolution's tokens: as many poles as there are frozen ones, and these."""
    make, d = BLOCKS[name]
    torch.manual_seed(1)
    module, u0 = scattered(make()), np.random.default_rng(2).standard_normal(d)
    found = small_signal(module, u0, **KEPT)
    (poles,) = (np.exp(mu).ravel() for mu in found.log_poles.values())
    got = realized(found.impulse_response, taps, poles.size)
    np.testing.assert_allclose(np.sort(got.real), np.sort(poles), rtol=rtol)
    np.testing.assert_allclose(got.imag, 0, atol=rtol)


def test_the_poles_of_a_stack_are_those_of_its_layers():
    module, u0 = scattered(stacked()), np.random.default_rng(2).standard_normal(4)
    found = small_signal(module, u0, **KEPT)
    assert {name: mu.shape for name, mu in found.log_poles.items()} == {"0.mixer": (3, 2), "1.mixer": (4, 1)}
    u = torch.tensor(np.tile(u0, (300, 1)))[None]
    with torch.no_grad():
        middle = module[0](u)
        entered = module[1].norm(middle)[0].numpy()
    want = load(module)["1.mixer"].along(entered).frozen(-1).log_poles
    np.testing.assert_allclose(found.log_poles["1.mixer"], want, rtol=1e-12)


def test_a_shared_layer_has_poles_for_each_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = RgLru(4, 2)

        def forward(self, u):
            return self.mixer(0.5 - self.mixer(u))

    module, u0 = scattered(Twice()), np.random.default_rng(2).standard_normal(4)
    found = small_signal(module, u0, length=60, settle=700, rtol=1e-9)
    assert list(found.log_poles) == ["mixer", "mixer, run 2"]
    got = realized(found.impulse_response, 1, 8)
    poles = np.concatenate([np.exp(mu).ravel() for mu in found.log_poles.values()])
    np.testing.assert_allclose(np.sort(got.real), np.sort(poles), rtol=1e-4)


def unselective():
    """A Mamba whose step, B, C and gate are constants: what is left is convolution, SiLU and a time-invariant recurrence."""
    module = scattered(Mamba(D, 4, 2, taps=3))
    with torch.no_grad():
        module.x_proj.weight.zero_()
        module.in_proj.weight[4:].zero_()
    return module


def test_without_selection_and_gate_it_is_the_frozen_system():
    module, u0 = unselective(), np.random.default_rng(4).standard_normal(D)
    found = small_signal(module, u0, length=500, settle=300, rtol=1e-9)
    layer = load(module)[""]
    x_in = layer.params["in_proj.weight"] @ u0 + layer.params["in_proj.bias"]
    taps = layer.params["conv1d.weight"][:, 0, ::-1]  # of lag 0, 1, 2
    before = taps.sum(1) * x_in[:4] + layer.params["conv1d.bias"]
    sigmoid = 1 / (1 + np.exp(-before))
    slope = sigmoid * (1 + before * (1 - sigmoid))  # of SiLU
    gate = x_in[4:] / (1 + np.exp(-x_in[4:]))
    frozen = layer.along(np.tile(u0, (20, 1))).frozen(-1)
    G = frequency_response(frozen, found.omega)[..., 0, 0]
    conv = np.exp(-1j * np.outer(np.arange(3), found.omega))
    inner = gate[:, None] * G * slope[:, None] * (taps @ conv)
    out = module.out_proj.weight.detach().numpy()
    want = np.einsum("oc,cf,ci->foi", out, inner, layer.params["in_proj.weight"][:4])
    np.testing.assert_allclose(found.frequency_response, want, atol=1e-12)


def test_selection_changes_the_response_and_not_the_poles():
    module, u0 = scattered(Mamba(D, 4, 2, taps=3), scale=0.8), np.random.default_rng(4).standard_normal(D)
    found = small_signal(module, u0, **KEPT)
    moment = load(module)[""].along(np.tile(u0, (20, 1))).frozen(-1)
    kernel = torch.fft.rfft(torch.tensor(impulse_response(moment, 360)[:, :, 0, 0]), n=720)

    def frozen(u):
        """The same block whose recurrence keeps the step, B and C of the operating point: only x passes through it."""
        x, z = module.in_proj(u).chunk(2, dim=-1)
        x = nn.functional.silu(module.conv1d(x.mT)[..., :360])
        y = torch.fft.irfft(torch.fft.rfft(x, n=720) * kernel)[..., :360].mT
        return module.out_proj(y * nn.functional.silu(z))

    u = torch.tensor(np.tile(u0, (360, 1)))[None]
    du = torch.zeros_like(u)
    du[0, 300, 0] = 1
    _, without = torch.func.jvp(frozen, (u,), (du,))
    without = without[0, 300:].detach().numpy()
    assert np.max(np.abs(found.impulse_response[..., 0] - without)) > 0.1 * np.max(np.abs(without))


def test_a_linear_layer_features_first():
    """Minimal S4D behind a tanh; poles complex, and those of the layer."""
    module, u0 = S4D(D, 4).double(), np.full(D, 0.05)
    found = small_signal(module, u0, length=100, settle=600, rtol=1e-6)
    layer = load(module)[""]
    y0 = np.arctanh(found.steady_output)
    K = impulse_response(layer.system(), 100)[..., 0, 0]
    for h in range(D):
        np.testing.assert_allclose(found.impulse_response[:, h, h], (1 - np.tanh(y0[h]) ** 2) * K[h], atol=1e-6 * np.max(np.abs(K)))
    np.testing.assert_array_equal(found.log_poles[""], layer.spectrum().log_poles)


class Square(torch.autograd.Function):
    """Without a rule for forwards, as some functions of published models."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 2 * x * grad


class Squared(Mamba):
    rule = True

    def forward(self, u):
        y = super().forward(u)
        return y * y if self.rule else Square.apply(y)


def test_twice_backwards_is_forwards():
    module, u0 = scattered(Squared(D, 4, 2)), np.ones(D)
    forwards = small_signal(module, u0, **KEPT)
    module.rule = False
    backwards = small_signal(module, u0, **KEPT)
    np.testing.assert_allclose(backwards.impulse_response, forwards.impulse_response, rtol=1e-10, atol=1e-15)


def test_other_errors_of_the_module_come_through():
    class Failing(Mamba):
        def forward(self, u):
            if u.shape[1] > KEPT["settle"]:
                raise RuntimeError("its own")
            return super().forward(u)

    with pytest.raises(RuntimeError, match="its own"):
        small_signal(Failing(D, 4, 2), np.ones(D), **KEPT)


def test_recurrent_gemma_through_a_call_of_ones_own():
    """Its square root has no rule for forwards; it needs positions, and keeps states in attributes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaConfig, RecurrentGemmaRecurrentBlock

    config = RecurrentGemmaConfig(hidden_size=6, lru_width=8, num_attention_heads=2, conv1d_width=4)
    module = scattered(RecurrentGemmaRecurrentBlock(config, layer_idx=0), scale=0.5)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(torch.randn(parameter.shape) / (1 if name.endswith("recurrent_param") else 3))
    module.rg_lru._rnn_scan = partial(module.rg_lru._rnn_scan, acc_dtype=torch.float64)

    def call(u):
        return module(u, torch.arange(u.shape[1])[None], None)[0]

    found = small_signal(module, np.ones(6), call=call, **KEPT)
    assert module.rg_lru.recurrent_states is None
    (name,) = found.log_poles
    assert (name, found.log_poles[name].shape) == ("rg_lru", (8, 1))
    u, eps = torch.ones(1, 360, 6, dtype=torch.float64), 1e-5
    du = torch.zeros_like(u)
    du[0, 300, 2] = eps
    with torch.no_grad():
        want = ((call(u + du) - call(u - du)) / (2 * eps))[0, 300:].numpy()
    np.testing.assert_allclose(found.impulse_response[..., 2], want, atol=1e-8)


@pytest.mark.parametrize(
    ("package", "mixer", "sizes"),
    [
        ("mamba", "MambaMixer", {"state_size": 3, "time_step_rank": 2}),
        ("mamba2", "Mamba2Mixer", {"state_size": 3, "num_heads": 3, "head_dim": 4, "n_groups": 1, "chunk_size": 16}),
    ],
)
def test_mixers_of_transformers_in_their_32_bits(package, mixer, sizes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modeling = importlib.import_module(f"transformers.models.{package}.modeling_{package}")
    config = getattr(modeling, f"{mixer.removesuffix('Mixer')}Config")(hidden_size=6, num_hidden_layers=1, expand=2, **sizes)
    module = getattr(modeling, mixer)(config, layer_idx=0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) / 2)
    found = small_signal(module, np.ones(6), length=40, settle=300)
    u, eps = torch.ones(1, 340, 6), 1e-2
    du = torch.zeros_like(u)
    du[0, 300, 2] = eps
    with torch.no_grad():
        want = ((module(u + du) - module(u - du)) / (2 * eps))[0, 300:].numpy()
    np.testing.assert_allclose(found.impulse_response[..., 2], want, atol=2e-3 * np.max(np.abs(want)))


def test_a_module_is_left_as_it_was():
    module = scattered(Block(D, Mamba(D, 4, 2))).train()
    module.mixer.dropout = nn.Dropout(0.5)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    small_signal(module, np.ones(D), **KEPT)
    assert all(part.training for part in module.modules())
    assert all(p.grad is None and p.requires_grad for p in module.parameters())
    for name, x in module.state_dict().items():
        np.testing.assert_array_equal(x, before[name])


# what is refused


def test_a_block_that_has_not_settled():
    module = Mamba(D, 4, 2).double()
    with torch.no_grad():
        module.dt_proj.weight.zero_()
        module.dt_proj.bias.fill_(-9)
    slowest = f"{1 / np.log1p(np.exp(-9.0)):.3g}"  # tokens; the step is softplus of its bias, the slowest rate 1
    with pytest.raises(
        ValueError, match=f"after 50 tokens the block has not settled: .*, and its slowest pole has a time constant of {re.escape(slowest)}"
    ):
        small_signal(module, np.ones(D), length=20, settle=50, rtol=1e-6)
    assert small_signal(module, np.ones(D), length=20, settle=50, rtol=1).drift > 1e-6


def test_a_block_that_never_settles():
    module = RgLru(4, 2).double()
    with torch.no_grad():
        module.a_param.fill_(-800)
    with pytest.raises(ValueError, match="it has a pole that does not decay; give it a longer settle, or a larger rtol"):
        small_signal(nn.Sequential(module, Integrator()), np.ones(4), length=20, settle=50)


class Integrator(nn.Module):
    def forward(self, u):
        return torch.cumsum(u, 1)


def test_two_directions():
    with pytest.raises(ValueError, match="the block must read in one direction, and ':reverse' reads from the end"):
        small_signal(BiMamba(D, 4, 2), np.ones(D))


def test_a_block_whose_layers_do_not_run():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.mixer = Mamba(D, 4, 2)

        def forward(self, u):
            return u

    with pytest.raises(ValueError, match="none of the 1 recurrent layers of the block ran"):
        small_signal(Idle(), np.ones(D))


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"length": 1}, ValueError, "length must be an integer from 2 on, got 1"),
        ({"settle": 2.0}, ValueError, "settle must be an integer from 2 on, got 2.0"),
        ({"settle": True}, ValueError, "settle must be an integer from 2 on, got True"),
        ({"u0": np.ones((1, D))}, ValueError, r"u0 must be finite numbers of shape \(d_model\), got \(1, 3\)"),
        ({"u0": np.full(D, np.nan)}, ValueError, "u0 must be finite numbers"),
        ({"u0": [1.0] * D}, TypeError, "u0 must be an array, got list"),
        ({"directions": np.ones(D)}, ValueError, r"directions must be finite numbers of shape \(m, d_model\), got \(3,\)"),
        ({"directions": np.ones((2, 4))}, ValueError, r"directions must have shape \(m, 3\), one deviation from u0 a row, got \(2, 4\)"),
        ({"directions": np.ones((0, D))}, ValueError, r"directions must have shape \(m, 3\), .* got \(0, 3\)"),
        ({"module": {}}, TypeError, "module must be a torch.nn.Module, got dict"),
    ],
)
def test_what_cannot_be_linearized(changes, error, message):
    module, u0 = changes.pop("module", Mamba(D, 4, 2)), changes.pop("u0", np.ones(D))
    with pytest.raises(error, match=message):
        small_signal(module, u0, **changes)
