"""Every family against somebody else's implementation, or against a path that shares no code with ours.

Mamba's mixer and RecurrentGemma's recurrence come from transformers with randomized weights; the linear families are
discretized by scipy and stepped as full real matrices.
"""

import warnings
from functools import partial

import numpy as np
import pytest
import scipy.signal
import torch

from ssm_analysis import FAMILIES, Layer, simulate
from tests.support.families_table import an_input, fresh, output, trained, with_options, with_params

L = 40


def relative(y, want):
    return np.max(np.abs(y - want)) / np.max(np.abs(want))


def randomized(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype) / 2)
    return module.eval()


def numbers(state):
    return {name: x.detach().numpy() for name, x in state.items()}


# Mamba


@pytest.fixture(scope="module")
def mamba():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.mamba import modeling_mamba

        return modeling_mamba


def mixer(mamba, **changes):
    sizes = {"hidden_size": 6, "state_size": 5, "expand": 2, "conv_kernel": 4, "time_step_rank": 3, "num_hidden_layers": 1}
    return randomized(mamba.MambaMixer(mamba.MambaConfig(**(sizes | changes)), layer_idx=0))


def scanned(mamba, monkeypatch, module, u):
    """What the selective scan of transformers is given, and what it returns before the gate."""
    seen, scan = {}, mamba.mamba_selective_scan

    def spy(hidden_states, dt, A, B, C, D=None, z=None, delta_bias=None, **keywords):
        y = scan(hidden_states, dt, A, B, C, D=D, z=None, delta_bias=delta_bias, **keywords)
        seen.update(x=hidden_states, delta=torch.nn.functional.softplus(dt + delta_bias[:, None]), A=A, B=B, C=C, y=y)
        return scan(hidden_states, dt, A, B, C, D=D, z=z, delta_bias=delta_bias, **keywords)

    monkeypatch.setattr(mamba, "mamba_selective_scan", spy)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module(torch.tensor(u)[None])
    return {name: x.numpy().reshape(x.shape[-2:]) for name, x in seen.items()}


def from_mixer(module):
    return Layer(family="s6", params={k: x for k, x in numbers(module.state_dict()).items() if not k.startswith("out_proj")})


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("changes", [{}, {"use_bias": True}, {"use_conv_bias": False}, {"conv_kernel": 2, "state_size": 1}])
def test_s6_is_the_mixer_of_transformers(mamba, monkeypatch, changes, precision, tolerance):
    if precision == torch.float64:  # the mixer casts parts of a double model to single
        monkeypatch.setattr(torch.Tensor, "float", lambda x: x)
    module = mixer(mamba, **changes).to(precision)
    u = an_input(from_mixer(module), L).astype(np.float64 if precision == torch.float64 else np.float32)
    theirs = scanned(mamba, monkeypatch, module, u)
    layer = from_mixer(module)
    sys, x = layer.along(u), layer.core_input(u)
    assert relative(x[..., 0], theirs["x"].T) < tolerance
    assert relative(sys.log_poles, theirs["delta"].T[:, :, None] * theirs["A"]) < tolerance
    assert relative(sys.B[..., 0], theirs["delta"].T[:, :, None] * theirs["B"].T[:, None, :]) < tolerance
    assert relative(simulate(sys, x)[..., 0], theirs["y"].T) < tolerance
    assert relative(layer.reference(u)[..., 0], theirs["y"].T) < tolerance


def test_s6_starts_where_the_mixer_of_transformers_starts(mamba):
    """Same rates and feed-through; steps on the same range, which transformers does not draw with numpy."""
    config = mamba.MambaConfig(hidden_size=64, state_size=16, num_hidden_layers=1, time_step_rank=4)
    theirs = numbers(mamba.MambaMixer(config, layer_idx=0).state_dict())
    ours = FAMILIES["s6"].init(d_model=64, d_state=16).params
    assert {name: x.shape for name, x in ours.items()} == {k: x.shape for k, x in theirs.items() if not k.startswith("out_proj")}
    for name in ("A_log", "D"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    for params in (ours, theirs):
        step = np.logaddexp(0, params["dt_proj.bias"].astype(float))
        assert 1e-3 * (1 - 1e-4) <= np.min(step) < 3e-3
        assert 3e-2 < np.max(step) <= 1e-1 * (1 + 1e-4)


# RecurrentGemma


@pytest.fixture(scope="module")
def gemma():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.recurrent_gemma import modeling_recurrent_gemma

        return modeling_recurrent_gemma


NAMES = {
    "recurrent_param": "a_param",
    "recurrent_gate_weight": "a_gate.w",
    "recurrent_gate_bias": "a_gate.b",
    "input_gate_weight": "input_gate.w",
    "input_gate_bias": "input_gate.b",
}


def recurrence(gemma, precision, *, heads=2):
    config = gemma.RecurrentGemmaConfig(hidden_size=6, lru_width=8, num_attention_heads=heads, conv1d_width=4)
    block = randomized(gemma.RecurrentGemmaRecurrentBlock(config, layer_idx=0)).to(precision)
    block.rg_lru._rnn_scan = partial(block.rg_lru._rnn_scan, acc_dtype=precision)  # single by default, also in a double model
    return block


def from_rg_lru(module):
    return {NAMES[name]: x for name, x in numbers(module.state_dict()).items()}


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_rg_lru_is_the_recurrence_of_transformers(gemma, precision, tolerance, heads):
    module = recurrence(gemma, precision, heads=heads).rg_lru
    layer = Layer(family="rg_lru", params=from_rg_lru(module))
    u = an_input(layer, L).astype(np.float64 if precision == torch.float64 else np.float32)
    with torch.no_grad():
        theirs = module(torch.tensor(u)[None], torch.arange(L)[None])[0].numpy()
    assert relative(output(layer, u)[..., 0], theirs) < tolerance
    assert relative(layer.reference(u)[..., 0], theirs) < tolerance


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_rg_lru_with_its_block_is_that_of_transformers(gemma, precision, tolerance):
    block = recurrence(gemma, precision)
    around = numbers({k: x for k, x in block.state_dict().items() if k.startswith(("linear_x", "conv_1d"))})
    params = {
        **from_rg_lru(block.rg_lru),
        "linear_x.weight": around["linear_x.weight"],
        "linear_x.bias": around["linear_x.bias"],
        "conv_1d.w": around["conv_1d.weight"][:, 0, :].T,
        "conv_1d.b": around["conv_1d.bias"],
    }
    layer, seen = Layer(family="rg_lru", params=params), []
    block.rg_lru.register_forward_hook(lambda module, inputs, y: seen.append(y))
    u = an_input(layer, L).astype(np.float64 if precision == torch.float64 else np.float32)
    with torch.no_grad():
        block(torch.tensor(u)[None], torch.arange(L)[None], None, use_cache=False)
    assert relative(output(layer, u)[..., 0], seen[0][0].numpy()) < tolerance
    assert relative(layer.reference(u)[..., 0], seen[0][0].numpy()) < tolerance


def test_the_first_token_enters_with_gain_one():
    """Without a state to blend it with; the pole is a[0] although there is nothing to forget."""
    layer = trained(fresh("rg_lru", heads=2))
    u = an_input(layer, 5)
    p, sigmoid = layer.params, lambda x: 1 / (1 + np.exp(-x))
    blocks = u[0].reshape(2, 2)
    gate = {n: sigmoid(np.einsum("hb,hbc->hc", blocks, p[f"{n}.w"]) + p[f"{n}.b"]).ravel() for n in ("a_gate", "input_gate")}
    sys = layer.along(u)
    np.testing.assert_allclose(sys.poles()[0, :, 0], np.exp(-8 * gate["a_gate"] * np.log1p(np.exp(p["a_param"]))), rtol=1e-13)
    np.testing.assert_allclose(output(layer, u)[0, :, 0], gate["input_gate"] * u[0], rtol=1e-13)
    a = sys.poles()[0, :, 0]
    without_reset = output(with_options(layer, reset_first=False), u)[0, :, 0]
    np.testing.assert_allclose(without_reset, np.sqrt(1 - a**2) * gate["input_gate"] * u[0], rtol=1e-12)


# the linear families, by scipy


def real_matrices(lam, B, C):
    """A mode lambda with y = Re(c x) as a 2 x 2 rotation of (Re x, Im x)."""
    n = len(lam)
    A, Br, Cr = np.zeros((2 * n, 2 * n)), np.zeros((2 * n, B.shape[1])), np.zeros((C.shape[0], 2 * n))
    for i in range(n):
        A[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[lam[i].real, -lam[i].imag], [lam[i].imag, lam[i].real]]
        Br[2 * i], Br[2 * i + 1] = B[i].real, B[i].imag
        Cr[:, 2 * i], Cr[:, 2 * i + 1] = C[:, i].real, -C[:, i].imag
    return A, Br, Cr


def discretized(A, B, delta, method):
    """scipy's, for a state whose entries have steps of their own: delta scales the rows of A and B. Tustin's B differs by convention."""
    A, B = delta[:, None] * A, delta[:, None] * B
    Ad, Bd, *_ = scipy.signal.cont2discrete((A, B, np.eye(len(A)), np.zeros((len(A), B.shape[1]))), 1.0, method=method)
    return Ad, Bd


def stepped(A, B, C, D, u):
    """h = A h + B u, y = C h + D u with full real matrices."""
    h, y = np.zeros(len(A)), []
    for u_k in u:
        h = A @ h + B @ u_k
        y.append(C @ h + D @ u_k)
    return np.array(y)


METHODS = {"zoh": "zoh", "bilinear": "bilinear"}


@pytest.mark.parametrize("rule", METHODS)
@pytest.mark.parametrize("changes", [{}, {"conj_sym": False}, {"blocks": 2}, {"step_rescale": 2.0}])
def test_s5_by_scipy(rule, changes):
    options = {k: v for k, v in changes.items() if k == "step_rescale"}
    layer = with_options(trained(fresh("s5", discretization=rule, **{k: v for k, v in changes.items() if k not in options})), **options)
    p, factor = layer.params, 1 if "conj_sym" in changes else 2
    A, B, C = real_matrices(p["Lambda_re"] + 1j * p["Lambda_im"], p["B"], factor * p["C"])
    delta = np.repeat(changes.get("step_rescale", 1.0) * np.exp(p["log_step"]), 2)
    u = an_input(layer, L)
    assert relative(output(layer, u), stepped(*discretized(A, B, delta, METHODS[rule]), C, np.diag(p["D"]), u)) < 1e-11


def test_s5_clips_growing_modes():
    layer = with_params(trained(fresh("s5", clip_eigs=True)), Lambda_re=np.array([-0.3, 0.2, 0.0, -2.0]))
    kept = with_params(with_options(layer, clip_eigs=False), Lambda_re=np.array([-0.3, -1e-4, -1e-4, -2.0]))
    u = an_input(layer, L)
    np.testing.assert_array_equal(output(layer, u), output(kept, u))
    assert np.max(np.abs(with_options(layer, clip_eigs=False).system().poles())) > 1


@pytest.mark.parametrize("rule", METHODS)
@pytest.mark.parametrize("changes", [{"init": "lin"}, {"init": "real"}, {"init": "legs", "n_ssm": 2, "channels": 3}])
def test_s4d_by_scipy(rule, changes):
    layer = trained(fresh("s4d", disc=rule, **changes))
    p, S, u = layer.params, changes.get("n_ssm", 1), an_input(layer, L)
    y = output(layer, u)
    for h in range(u.shape[1]):
        copy = h % S  # feature h uses copy h mod S
        lam = -np.exp(p["A_real"][copy]) - 1j * (p["A_imag"][copy] if "A_imag" in p else 0)
        A, B, C = real_matrices(lam, p["B"][copy][:, None] + 0j, 2 * p["C"][:, h] + 0j)
        delta = np.full(len(A), np.exp(p["inv_dt"][h, 0]))
        want = stepped(*discretized(A, B, delta, METHODS[rule]), C, p["D"][:, h : h + 1], u[:, h : h + 1])
        assert relative(y[:, h], want) < 1e-11


def test_lru_as_full_real_matrices():
    layer = trained(fresh("lru"))
    p, u = layer.params, an_input(layer, L)
    lam = np.exp(-np.exp(p["nu_log"])) * np.exp(1j * np.exp(p["theta_log"]))
    B = np.exp(p["gamma_log"])[:, None] * (p["B_re"] + 1j * p["B_im"])
    A, B, C = real_matrices(lam, B, p["C_re"] + 1j * p["C_im"])
    assert relative(output(layer, u), stepped(A, B, C, np.diag(p["D"]), u)) < 1e-12


def test_s4d_and_s5_of_one_mode_in_closed_form():
    """K[k] = 2 Re(c b_d lambda^k) with b_d = (lambda - 1) / a b, by hand for a = -1/2 - i pi and a step of 0.1."""
    a, step, c = -0.5 - 1j * np.pi, 0.1, 0.7 - 0.2j
    k = np.arange(12)
    want = 2 * np.real(c * (np.exp(a * step) - 1) / a * np.exp(a * step * k))
    s4d = with_params(
        fresh("s4d", d_model=1, d_state=2),
        inv_dt=np.log([[step]]), A_real=np.log([[0.5]]), A_imag=np.array([[np.pi]]), B=np.ones((1, 1)) + 0j, C=np.array([[[c]]]),
        D=np.zeros((1, 1)),
    )  # fmt: skip
    s5 = with_params(
        fresh("s5", d_model=1, d_state=2),
        log_step=np.log([step]), Lambda_re=np.array([-0.5]), Lambda_im=np.array([-np.pi]), B=np.ones((1, 1)) + 0j, C=np.array([[c]]),
        D=np.zeros(1),
    )  # fmt: skip
    impulse = np.eye(len(k), 1)
    np.testing.assert_allclose(output(s4d, impulse)[:, 0, 0], want, atol=1e-15)
    np.testing.assert_allclose(output(s5, impulse)[:, 0], want, atol=1e-15)
