r"""RG-LRU, the gated linear recurrence of Griffin, Hawk and RecurrentGemma: one real state per channel.

    r[k] = sigmoid(W_a x[k] + b_a),   i[k] = sigmoid(W_x x[k] + b_x)         block-diagonal gates,
    log a[k] = -c r[k] softplus(a_param),   c = 8,
    h[k] = a[k] h[k-1] + sqrt(1 - a[k]^2) i[k] x[k],   y[k] = h[k].

The first token of a document enters with gain 1 in place of sqrt(1 - a^2), since there is no state to blend it with.

The complex variant (only_real=False in recurrentgemma) turns the state as well: with S = W/2 states,

    log a[k] = -c r[k] softplus(a_param) + i r[k] a_imag_param,   gain sqrt(1 - |a[k]|^2),

where the first half of x is the real part of the input of the recurrence and the second half its imaginary part.

Glossary
--------
W  width: features, and states
a_param (W)                                        log a at an open gate is -c softplus(a_param)
a_gate.w, input_gate.w (heads, W/heads, W/heads)   gates, one block per head: gate = x_block @ w + b
a_gate.b, input_gate.b (heads, W/heads)
a_imag_param (S)                                   of the complex variant, whose a_param is (S) and whose gates have S outputs
linear_x.weight (W, d_model), linear_x.bias (W), conv_1d.w (4, W), conv_1d.b (W)
                                                   of the block around the recurrence, where they are present: x = conv(linear_x(u))

References
----------
De et al., Griffin, arXiv 2402.19427, section 2.4; names as in the official implementation recurrentgemma.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.rg_lru.options import DEFAULTS, Options
from ssm_analysis.families.shared.convolution import depthwise
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.parameters import check_choice, check_input, check_interval, check_params, check_sizes, generator
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.xp import Array, array_namespace, complex_from, double, to_numpy

SHAPES = {
    "a_param": "W",
    "a_gate.w": "heads block block",
    "a_gate.b": "heads block",
    "input_gate.w": "heads block block",
    "input_gate.b": "heads block",
    "linear_x.weight": "W d_model",
    "linear_x.bias": "W",
    "conv_1d.w": "taps W",
    "conv_1d.b": "W",
}
COMPLEX_SHAPES = {
    "a_param": "S",
    "a_imag_param": "S",
    "a_gate.w": "heads block half",
    "a_gate.b": "heads half",
    "input_gate.w": "heads block half",
    "input_gate.b": "heads half",
    "linear_x.weight": "2*S d_model",
    "linear_x.bias": "2*S",
    "conv_1d.w": "taps 2*S",
    "conv_1d.b": "2*S",
}
BLOCK_PARAMS = ("linear_x.weight", "linear_x.bias", "conv_1d.w", "conv_1d.b")
RINGS = ("a^8", "a")


def init(*, d_model: int = 64, heads: int = 1, ring: str = "a^8", a_min: float = 0.9, a_max: float = 0.999, seed: int = 0) -> Layer:
    """Initialize a recurrence of width d_model, without the block around it.

    Parameters
    ----------
    d_model
        Width W, the number of features and of states.
    heads
        Number of blocks of the gates, a divisor of ``d_model``.
    ring
        The quantity that lies in [a_min, a_max]; the two published conventions differ. ``a^8``: the eigenvalue with the gate fully
        open, uniform, as the Griffin paper and Hawk in the companion code of arXiv 2403.16899. ``a``: its eighth root,
        with a uniform square, as the code of recurrentgemma; the eigenvalue with the gate open is then in [0.43, 0.992].
    a_min, a_max
        Smallest and largest value of that quantity.
    seed
        Random seed of the parameters.
    """
    check_sizes(d_model=d_model, heads=heads)
    check_choice("ring", ring, RINGS)
    check_interval("a_min", a_min, "a_max", a_max, inside=(np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg))
    if d_model % heads:
        raise ValueError(f"heads must divide d_model = {d_model}, got {heads}")
    rng, block = generator(seed), d_model // heads
    rate = -0.5 * np.log(rng.uniform(a_min**2, a_max**2, d_model)) if ring == "a" else -np.log(rng.uniform(a_min, a_max, d_model)) / 8
    params = {
        "a_param": np.log(np.expm1(rate)),  # softplus^-1
        "a_gate.w": rng.standard_normal((heads, block, block)) / np.sqrt(block),
        "a_gate.b": np.zeros((heads, block)),
        "input_gate.w": rng.standard_normal((heads, block, block)) / np.sqrt(block),
        "input_gate.b": np.zeros((heads, block)),
    }
    return initialized("rg_lru", params, c=8.0, epsilon=0.0, reset_first=True)


def along(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, channels: slice | None = None) -> DiagonalLTV:
    """Return the W scalar systems of the layer along ``u``: batch shape (W,), or (S,) in the complex variant.

    At step 0 the pole is a[0], although it multiplies a zero state, and the gain is 1 if ``reset_first``.

    Parameters
    ----------
    params
        The parameters of the glossary.
    u
        The input of the block, or of a bare recurrence, from the first token of one document.
    options
        The options of the layer; see `Options`.
    channels
        Slice of the channels to return; by default all. The gates mix channels, so a slice costs as much as the whole.
    """
    whole = recurrence(params, u, options)
    return (whole if channels is None else whole[channels]).system()


def windows(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, size: int) -> Iterator[DiagonalLTV]:
    """Yield the systems of `along`, ``size`` channels at a time."""
    whole = recurrence(params, u, options)
    return (whole[start : start + size].system() for start in range(0, len(whole), size))


def recurrence(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> DiagonalRecurrence:
    """Return the recurrence along ``u``, read out after the update as in the paper; trainable layers run it."""
    _check(params, u)
    xp = array_namespace(*params.values())
    x = _recurrence_input(params, u)
    rate = options.c * apply_transform("softplus", params["a_param"])
    gate = _gate(params["a_gate.w"], params["a_gate.b"], x)
    log_poles = -rate * gate
    gain = xp.sqrt(-xp.expm1(2 * log_poles) + options.epsilon)
    if "a_imag_param" in params:
        log_poles = complex_from(log_poles, params["a_imag_param"] * gate)
    if options.reset_first:
        gain = xp.concat([xp.ones_like(gain[:1, :]), gain[1:, :]])
    B = gain * _gate(params["input_gate.w"], params["input_gate.b"], x)
    one = xp.ones_like(rate)[:, None, None]
    return DiagonalRecurrence(log_poles=log_poles[..., None], B=B[..., None, None], C=one, D=0 * one)


def core_input(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Inexact[Array, "l w 1"]:
    """Return x, which drives the recurrence: ``u`` itself, or conv(linear_x(u)) if the block is present."""
    _check(params, u)
    x = _recurrence_input(params, u)
    S = params["a_param"].shape[0]
    return (complex_from(x[:, :S], x[:, S:]) if "a_imag_param" in params else x)[..., None]


def reference(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Inexact[np.ndarray, "l w 1"]:
    """Run the recurrence of the paper token by token."""
    _check(params, u)
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    x = to_numpy(u)
    if "linear_x.weight" in p:
        x = x @ p["linear_x.weight"].T + p["linear_x.bias"]
        taps, past = len(p["conv_1d.w"]), np.concatenate([np.zeros((len(p["conv_1d.w"]) - 1, x.shape[1])), x])
        x = np.stack([np.sum(p["conv_1d.w"] * past[k : k + taps], axis=0) + p["conv_1d.b"] for k in range(len(x))])

    def gate(name: str, x_k: np.ndarray) -> np.ndarray:
        blocks = np.split(x_k, len(p[f"{name}.w"]))
        pre = np.concatenate([block @ w + b for block, w, b in zip(blocks, p[f"{name}.w"], p[f"{name}.b"], strict=True)])
        return 1 / (1 + np.exp(-pre))

    S = len(p["a_param"])
    h, y = np.zeros(S), []
    for k, x_k in enumerate(x):
        r, i = gate("a_gate", x_k), gate("input_gate", x_k)
        a = np.exp(-options.c * r * np.log1p(np.exp(p["a_param"])))
        gain = 1.0 if k == 0 and options.reset_first else np.sqrt(1 - a**2 + options.epsilon)
        if "a_imag_param" in p:
            h = a * np.exp(1j * r * p["a_imag_param"]) * h + gain * i * (x_k[:S] + 1j * x_k[S:])
        else:
            h = a * h + gain * i * x_k
        y.append(h)
    return np.stack(y)[..., None]


def _check(params: Params, u: Array) -> None:
    sizes = check_params("rg_lru", params, COMPLEX_SHAPES if "a_imag_param" in params else SHAPES, optional=BLOCK_PARAMS)
    width = sizes["W"] if "W" in sizes else 2 * sizes["S"]
    if sizes["heads"] * sizes["block"] != width or 2 * sizes.get("half", sizes["block"] / 2) != sizes["block"]:
        got = f"{sizes['heads']} blocks of {sizes['block']}: {tuple(params['a_gate.w'].shape)}"
        raise ValueError(f"the gates of an RG-LRU must cover its width W = {width}, got {got}")
    present = [name for name in BLOCK_PARAMS if name in params]
    if present and len(present) < len(BLOCK_PARAMS):
        raise KeyError(f"an RG-LRU with its block needs all of {', '.join(BLOCK_PARAMS)}, got {', '.join(present)}")
    check_input(u, sizes.get("d_model", width))


def _recurrence_input(params: Params, u: Array) -> Array:
    if "linear_x.weight" not in params:
        return u
    xp = array_namespace(u)
    x = xp.matmul(u, xp.matrix_transpose(params["linear_x.weight"])) + params["linear_x.bias"]
    return depthwise(x, xp.matrix_transpose(params["conv_1d.w"]), params["conv_1d.b"])


def _gate(w: Array, b: Array, x: Float[Array, "l w"]) -> Float[Array, "l states"]:
    """Return sigmoid(x_block @ w + b), block by block."""
    xp, (heads, block, _) = array_namespace(x), w.shape
    pre = xp.matmul(xp.reshape(x, (-1, heads, 1, block)), w)[..., 0, :] + b
    return apply_transform("sigmoid", xp.reshape(pre, (x.shape[0], -1)))


def at_bias(params: Params, options: Options = DEFAULTS) -> Inexact[Array, "s 1"]:
    """Return log a with the gate sigmoid(b_a)."""
    xp = array_namespace(*params.values())
    gate = apply_transform("sigmoid", xp.reshape(params["a_gate.b"], (-1,)))
    log_poles = -options.c * apply_transform("softplus", params["a_param"]) * gate
    if "a_imag_param" in params:
        log_poles = complex_from(log_poles, params["a_imag_param"] * gate)
    return log_poles[:, None]
