"""Mamba, Mamba-2, RG-LRU and Hawk in every layout, against the recurrences of the original code, step by step."""

import numpy as np
import pytest

from ssm_analysis import simulate
from ssm_analysis.checkpoint import CheckpointError
from ssm_analysis.checkpoint.loading import load

L, D_MODEL, D_INNER, N, RANK = 14, 4, 6, 3, 2


def random(*shape):
    return np.random.default_rng(len(shape) * 100 + sum(shape)).standard_normal(shape)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def convolved(x, weight, bias):
    """Causal and depthwise: weight (channels, taps), the last tap for the current token."""
    taps = weight.shape[1]
    past = np.concatenate([np.zeros((taps - 1, x.shape[1])), x])
    return np.array([np.sum(weight.T * past[k : k + taps], axis=0) for k in range(len(x))]) + bias


def assert_scans(layer, u, want):
    y = simulate(layer.along(u), layer.core_input(u))[..., 0]
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-12 * np.max(np.abs(want)))


# Mamba and its relatives


def mamba(**changes):
    shapes = {
        "A_log": (D_INNER, N), "D": (D_INNER,), "in_proj.weight": (2 * D_INNER, D_MODEL), "conv1d.weight": (D_INNER, 1, 4),
        "conv1d.bias": (D_INNER,), "x_proj.weight": (RANK + 2 * N, D_INNER), "dt_proj.weight": (D_INNER, RANK), "dt_proj.bias": (D_INNER,),
        "out_proj.weight": (D_MODEL, D_INNER),
    }  # fmt: skip
    return {name: 0.5 * random(*shape) for name, shape in (shapes | changes).items()}


def scan(x, t, *, norm=lambda v, name: v):
    """h = exp(delta A) h + delta B x, y = C h + D x for x behind the convolution, (L, channels)."""
    A, h, y = -np.exp(t["A_log"]), np.zeros(t["A_log"].shape), []
    for x_k in x:
        r, B, C = np.split(t["x_proj.weight"] @ x_k + t.get("x_proj.bias", 0), [RANK, RANK + N])
        r, B, C = norm(r, "dt"), norm(B, "b"), norm(C, "c")
        delta = softplus(t["dt_proj.weight"] @ r + t["dt_proj.bias"])[:, None]
        h = np.exp(delta * A) * h + delta * B * x_k[:, None]
        y.append(h @ C + t["D"] * x_k)
    return np.array(y)


def in_front(t, u):
    x = u @ t["in_proj.weight"][:D_INNER].T + t.get("in_proj.bias", np.zeros(2 * D_INNER))[:D_INNER]
    x = convolved(x, t["conv1d.weight"][:, 0], t.get("conv1d.bias", 0.0))
    return x * sigmoid(x)


@pytest.mark.parametrize(
    "changes", [{}, {"in_proj.bias": (2 * D_INNER,), "x_proj.bias": (RANK + 2 * N,)}, {"conv1d.weight": (D_INNER, 1, 2)}]
)
def test_mamba(changes):
    t, u = mamba(**changes), random(L, D_MODEL)
    layers = load({f"backbone.layers.0.mixer.{n}": x for n, x in t.items()} | {"backbone.embedding.weight": random(8, D_MODEL)})
    assert list(layers) == ["backbone.layers.0.mixer"]
    assert_scans(layers["backbone.layers.0.mixer"], u, scan(in_front(t, u), t))


def test_mamba_without_the_bias_of_its_convolution():
    t, u = mamba(), random(L, D_MODEL)
    del t["conv1d.bias"]
    assert_scans(load(t)[""], u, scan(in_front(t, u), t))


def test_mamba_in_two_directions():
    """Vision Mamba: the second set of weights reads the reversed sequence, behind the same in_proj."""
    t, u = mamba(), random(L, D_MODEL)
    second = {n: x[::-1].copy() for n, x in t.items() if not n.startswith(("in_proj", "out_proj"))}
    names = {"A_log": "A_b_log", "D": "D_b"} | {n: n.replace(".", "_b.") for n in second if "." in n}
    layers = load({f"layers.0.mixer.{n}": x for n, x in (t | {names[n]: x for n, x in second.items()}).items()})
    assert list(layers) == ["layers.0.mixer", "layers.0.mixer:reverse"]
    assert_scans(layers["layers.0.mixer"], u, scan(in_front(t, u), t))
    both = t | second
    assert_scans(layers["layers.0.mixer:reverse"], u[::-1].copy(), scan(in_front(both, u[::-1]), both))


@pytest.mark.parametrize(
    "said", [{"mixer_rms_eps": 0.01}, {"model_type": "falcon_mamba", "mixer_rms_eps": 0.01}, {"model_type": "falcon_mamba"}]
)
def test_falcon_mamba(said):
    """The same tensors as Mamba: only the configuration tells."""
    t, u, epsilon = mamba(), random(L, D_MODEL), said.get("mixer_rms_eps", 1e-6)
    want = scan(in_front(t, u), t, norm=lambda v, name: v / np.sqrt(np.mean(v**2) + epsilon))
    assert_scans(load(t, config=said)[""], u, want)


def test_jamba():
    t, u = mamba(), random(L, D_MODEL)
    norms = {f"{name}_layernorm.weight": random(size) for name, size in (("dt", RANK), ("b", N), ("c", N))}
    want = scan(in_front(t, u), t, norm=lambda v, name: norms[f"{name}_layernorm.weight"] * v / np.sqrt(np.mean(v**2) + 0.01))
    layers = load({f"model.layers.4.mamba.{n}": x for n, x in (t | norms).items()}, config={"rms_norm_eps": 0.01})
    assert list(layers) == ["model.layers.4.mamba"]
    assert_scans(layers["model.layers.4.mamba"], u, want)


def test_zamba():
    """Heads of their own, and rows of in_proj that alternate between x and z."""
    heads, channels = 2, D_INNER // 2
    shapes = {
        "x_proj_weight": (heads, RANK + 2 * N, channels), "dt_proj_weight": (heads, channels, RANK), "dt_proj_bias": (heads, channels),
        "A_log": (heads, channels, N), "D": (heads, channels), "in_proj.weight": (2 * D_INNER, D_MODEL), "conv1d.weight": (D_INNER, 1, 4),
        "conv1d.bias": (D_INNER,), "out_proj.weight": (D_MODEL, D_INNER),
    }  # fmt: skip
    t, u = {name: 0.5 * random(*shape) for name, shape in shapes.items()}, random(L, D_MODEL)
    x = in_front(t | {"in_proj.weight": t["in_proj.weight"][::2]}, u)
    want = [
        scan(x[:, j * channels : (j + 1) * channels], {
            "A_log": t["A_log"][j], "D": t["D"][j], "x_proj.weight": t["x_proj_weight"][j], "dt_proj.weight": t["dt_proj_weight"][j],
            "dt_proj.bias": t["dt_proj_bias"][j],
        })
        for j in range(heads)
    ]  # fmt: skip
    assert_scans(load(t)[""], u, np.concatenate(want, axis=1))


# Mamba-2


def mamba2(*, groups=1, heads=4, p=2, d_mlp=0, hdim=False, norm=True, n=N):
    d, mixed = heads * p, heads * p + 2 * groups * n
    shapes = {
        "dt_bias": (heads,), "A_log": (heads,), "D": (d if hdim else heads,), "in_proj.weight": (2 * d_mlp + d + mixed + heads, D_MODEL),
        "conv1d.weight": (mixed, 1, 4), "conv1d.bias": (mixed,), "out_proj.weight": (D_MODEL, d_mlp + d),
        **({"norm.weight": (d,)} if norm else {}),
    }  # fmt: skip
    return {name: 0.5 * random(*shape) for name, shape in shapes.items()}


def scan2(t, u, *, groups=1, heads=4, p=2, d_mlp=0, limit=(0.0, np.inf), multipliers=(1, 1, 1, 1, 1), n=N, **shapes):
    """in_proj: [an MLP, z, x, B, C, dt]."""
    d = heads * p
    rows = u @ t["in_proj.weight"].T
    _, _, x, B, C, r = np.split(rows, np.cumsum([2 * d_mlp, d, d, groups * n, groups * n]), axis=1)
    x, B, C, r = (m * v for m, v in zip(multipliers[1:], (x, B, C, r), strict=True))
    mixed = convolved(np.concatenate([x, B, C], axis=1), t["conv1d.weight"][:, 0], t["conv1d.bias"])
    x, B, C = np.split(mixed * sigmoid(mixed), [d, d + groups * n], axis=1)
    x, B, C = x.reshape(L, heads, p), *(np.repeat(v.reshape(L, groups, n), heads // groups, axis=1) for v in (B, C))
    delta = np.clip(softplus(r + t["dt_bias"]), *limit)
    S, y = np.zeros((heads, p, n)), []
    for k in range(L):
        decay = np.exp(-delta[k] * np.exp(t["A_log"]))[:, None, None]
        S = decay * S + delta[k][:, None, None] * x[k][:, :, None] * B[k][:, None, :]
        y.append(np.sum(S * C[k][:, None, :], axis=-1) + t["D"].reshape(heads, -1) * x[k])
    return np.array(y)


MAMBA2 = {
    "as it is": ({}, {}, {}),
    "groups": ({"groups": 2}, {"ssm_cfg": {"ngroups": 2}}, {}),
    "groups, transformers": ({"groups": 2}, {"n_groups": 2}, {}),
    "Bamba": ({"groups": 2}, {"model_type": "bamba", "mamba_n_groups": 2}, {}),
    "eight groups unless told": ({"groups": 8, "heads": 8}, {"model_type": "mamba2"}, {}),
    "limits": ({"limit": (0.3, 0.9)}, {"ssm_cfg": {"dt_limit": [0.3, 0.9]}}, {}),
    "no upper limit": (
        {"limit": (0.4, np.inf)}, {"model_type": "mamba2", "n_groups": 1, "time_step_limit": [0.4, {"__float__": "Infinity"}]}, {},
    ),
    "from below": (
        {"limit": (0.6, np.inf)}, {"model_type": "nemotron_h", "n_groups": 1, "time_step_min": 0.6, "time_step_limit": [0, 0.1]}, {},
    ),
    "Zamba2": ({"limit": (0.6, np.inf), "groups": 2}, {"model_type": "zamba2", "mamba_ngroups": 2, "time_step_min": 0.6}, {}),
    "an MLP beside": ({"d_mlp": 3}, {}, {}),
    "an MLP beside, no norm": ({"d_mlp": 3, "norm": False}, {}, {}),
    "no norm": ({"norm": False}, {}, {}),
    "D of each channel": ({"hdim": True}, {}, {}),
    "all of it": ({"groups": 2, "d_mlp": 3, "hdim": True, "limit": (0.3, 0.9)}, {}, {"ngroups": 2, "dt_limit": (0.3, 0.9)}),
    "Falcon-H1": ({"multipliers": (0.25, 0.5, 0.75, 1.5, 0.625)}, {"ssm_multipliers": [0.25, 0.5, 0.75, 1.5, 0.625]}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", MAMBA2)
def test_mamba2(name):
    how, config, said = MAMBA2[name]
    t, u = mamba2(**{k: v for k, v in how.items() if k not in ("limit", "multipliers")}), random(L, D_MODEL)
    layers = load({f"backbone.layers.0.mixer.{n}": x for n, x in t.items()}, config=config, assume=said)
    assert list(layers) == ["backbone.layers.0.mixer"]
    assert_scans(layers["backbone.layers.0.mixer"], u, scan2(t, u, **how))


def test_other_activations_are_refused():
    for t, key in ((mamba(), "hidden_act"), (mamba2(), "mamba_hidden_act")):
        with pytest.raises(CheckpointError, match=f"{key} is 'gelu', and only silu is supported as the activation of Mamba"):
            load(t, config={key: "gelu"})


# RG-LRU


W, HEADS = 8, 2


def rg_lru(*, states=W):
    block, out = W // HEADS, states // HEADS
    shapes = {"a_param": (states,)} | {
        f"{gate}.{kind}": shape for gate in ("a_gate", "input_gate") for kind, shape in (("w", (HEADS, block, out)), ("b", (HEADS, out)))
    }
    return {name: random(*shape) + 0.1 * i for i, (name, shape) in enumerate(shapes.items())}


def rg_scan(t, x, *, c=8.0, epsilon=0.0, reset=True):
    """The first token enters with gain 1 where a document begins."""

    def gate(name, x_k):
        return sigmoid(
            np.concatenate([b @ w + v for b, w, v in zip(np.split(x_k, len(t[f"{name}.w"])), t[f"{name}.w"], t[f"{name}.b"], strict=True)])
        )

    y, h, S = [], 0.0, len(t["a_param"])
    for k, x_k in enumerate(x):
        r, i = gate("a_gate", x_k), gate("input_gate", x_k)
        size = np.exp(-c * r * softplus(t["a_param"]))
        gain = 1.0 if reset and k == 0 else np.sqrt(1 - size**2 + epsilon)
        if "a_imag_param" in t:
            h = size * np.exp(1j * t["a_imag_param"] * r) * h + gain * i * (x_k[:S] + 1j * x_k[S:])
        else:
            h = size * h + gain * i * x_k
        y.append(h)
    return np.array(y)


def around():
    return {"linear_x.weight": random(W, D_MODEL), "linear_x.bias": random(W), "conv_1d.w": random(4, W), "conv_1d.b": random(W) + 0.5}


def behind(b, u):
    return convolved(u @ b["linear_x.weight"].T + b["linear_x.bias"], b["conv_1d.w"].T, b["conv_1d.b"])


HUGGING_FACE = {"a_param": "recurrent_param"} | {
    f"{ours}.{kind}": f"{theirs}_gate_{name}" for ours, theirs in (("a_gate", "recurrent"), ("input_gate", "input"))
    for kind, name in (("w", "weight"), ("b", "bias"))
}  # fmt: skip


def in_flax(b):
    return {("linear_x.kernel" if n == "linear_x.weight" else n): (x.T if n == "linear_x.weight" else x) for n, x in b.items()}


def in_hugging_face(b):
    return {"linear_x.weight": b["linear_x.weight"], "linear_x.bias": b["linear_x.bias"], "conv_1d.bias": b["conv_1d.b"]} | {
        "conv_1d.weight": b["conv_1d.w"].T[:, None]
    }


BLOCKS = {
    "torch": ("blocks.0.recurrent_block.", lambda n: f"rg_lru.{n}", lambda b: b),
    "flax": ("params/blocks.0/recurrent_block/", lambda n: f"rg_lru/{n.replace('.', '/')}", in_flax),
    "transformers": ("model.layers.0.temporal_block.", lambda n: f"rg_lru.{HUGGING_FACE[n]}", in_hugging_face),
}


@pytest.mark.parametrize("form", BLOCKS)
@pytest.mark.parametrize("alone", [False, True])
def test_rg_lru(form, alone):
    prefix, own, others = BLOCKS[form]
    t, b, u = rg_lru(), around(), random(L, W if alone else D_MODEL)
    tensors = {own(n): x for n, x in t.items()} | (
        {} if alone else {n.replace(".", "/") if "/" in prefix else n: x for n, x in others(b).items()}
    )
    layers = load({prefix + n: x for n, x in tensors.items()})
    name = prefix.removeprefix("params/").replace("/", ".") + "rg_lru"
    assert list(layers) == [name]
    assert_scans(layers[name], u, rg_scan(t, u if alone else behind(b, u)))


@pytest.mark.parametrize("alone", [False, True])
def test_a_complex_rg_lru(alone):
    """recurrentgemma in flax with only_real=False: W/2 states; x holds real parts, then imaginary parts."""
    t, b, u = rg_lru(states=W // 2) | {"a_imag_param": 3 * random(W // 2)}, around(), random(L, W if alone else D_MODEL)
    layers = load({"params": {"blocks.0": {"rg_lru": t} | ({} if alone else in_flax(b))}})
    layer = layers["blocks.0.rg_lru"]
    want = rg_scan(t, u if alone else behind(b, u))
    assert layer.along(u).batch_shape == (W // 2,)
    assert_scans(layer, u, want)
    np.testing.assert_allclose(layer.reference(u)[..., 0], want, rtol=0, atol=1e-12 * np.max(np.abs(want)))
    one = next(layer.windows(u, channels=1))
    np.testing.assert_array_equal(one.log_poles, layer.along(u, channels=slice(0, 1)).log_poles)


def test_complex_gates_that_do_not_fit():
    t = rg_lru(states=W // 2) | {"a_imag_param": random(W // 2)}
    t["a_gate.w"], t["input_gate.w"] = (np.concatenate([x, x], axis=1) for x in (t["a_gate.w"], t["input_gate.w"]))
    with pytest.raises(ValueError, match=r"must cover its width W = 8, got 2 blocks of 8: \(2, 8, 2\)"):
        load(t)[""].along(random(L, W))


def test_hawk():
    """Dense gates, forget first; the exponent is stored; 1e-6 under the root, and no gain of 1 at the first token."""
    shapes = {
        "forget_base": (W,), "input.weight": (2 * W, D_MODEL), "conv.weight": (W, 1, 4), "conv.bias": (W,), "gates.weight": (2 * W, W),
        "gates.bias": (2 * W,), "output.weight": (D_MODEL, W),
    }  # fmt: skip
    t, u = {name: random(*shape) for name, shape in shapes.items()} | {"alpha_log_scale": np.array([-7.5])}, random(L, D_MODEL)
    forget, enter = t["gates.weight"].T[None, :, :W], t["gates.weight"].T[None, :, W:]
    plain = {"a_param": t["forget_base"], "a_gate.w": forget, "a_gate.b": t["gates.bias"][None, :W]}
    plain |= {"input_gate.w": enter, "input_gate.b": t["gates.bias"][None, W:]}
    x = convolved(u @ t["input.weight"][W:].T, t["conv.weight"][:, 0], t["conv.bias"])
    layers = load({f"blocks.1.hawk.{n}": v for n, v in t.items()})
    assert list(layers) == ["blocks.1.hawk"]
    assert_scans(layers["blocks.1.hawk"], u, rg_scan(plain, x, c=7.5, epsilon=1e-6, reset=False))
