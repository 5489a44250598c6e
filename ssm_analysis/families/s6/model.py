r"""S6, the selective layer of Mamba: step, input and output weights depend on the input.

    x = SiLU(conv(W_in u)),   (r, B, C)[k] = W_x x[k],   delta[k] = softplus(W_dt r[k] + b_dt)   per inner channel,
    h[k] = exp(delta[k] A) h[k-1] + delta[k] B[k] x[k],   y[k] = C[k] h[k] + D x[k],   A = -exp(A_log).

The state is discretized exactly, the input by Euler: the official code does so, while the paper states zero-order hold.
The gate SiLU(z) and the output projection that follow are not part of the recurrence.

Its relatives differ only in how they compute r, B and C:

============  ================================================================================================================
Falcon-Mamba  r, B and C are divided by their root mean squares: mixer_rms_eps
Jamba         the same with learned weights: mixer_rms_eps (its rms_norm_eps), and the three layernorm.weight below
Zamba         heads of d_inner / heads channels, each with r, B and C from its own channels: names and shapes of its own below
============  ================================================================================================================

Glossary
--------
d_model           features that enter the mixer
d_inner           inner channels (2 d_model); each has a system of its own
d_state           real states per channel
dt_rank           width of the bottleneck r
A_log (d_inner, d_state), D (d_inner)                   decay rates, feed-through
in_proj.weight (2 d_inner, d_model), in_proj.bias       rows: x first, then the gate z
conv1d.weight (d_inner, 1, d_conv), conv1d.bias         short convolution
x_proj.weight (dt_rank + 2 d_state, d_inner), x_proj.bias   rows: r, B, C
dt_proj.weight (d_inner, dt_rank), dt_proj.bias         step before softplus

dt_layernorm.weight (dt_rank), b_layernorm.weight (d_state), c_layernorm.weight (d_state)   Jamba alone

In Zamba x_proj_weight (heads, dt_rank + 2 d_state, d_inner/heads), dt_proj_weight (heads, d_inner/heads, dt_rank) and
dt_proj_bias (heads, d_inner/heads) stand for those with a dot, A_log and D have heads in front, (heads, d_inner/heads, d_state)
and (heads, d_inner/heads), and the rows of in_proj.weight alternate between x and z.

The biases of in_proj (``bias=True`` in the official implementation), conv1d and x_proj (ports to other libraries) may be missing.

References
----------
Gu, Dao, Mamba, arXiv 2312.00752, Algorithm 2; names and defaults as in the official implementation. The near-unit
initialization A = -1/2 is the ablation that the companion code of arXiv 2403.16899 leaves as a comment. Falcon-Mamba
(arXiv 2410.05355), Jamba (arXiv 2403.19887) and Zamba (arXiv 2405.16712) as in Hugging Face transformers.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.s6.options import DEFAULTS, Options
from ssm_analysis.families.shared.convolution import depthwise
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.parameters import (
    check_choice,
    check_input,
    check_interval,
    check_params,
    check_sizes,
    generator,
    log_uniform,
)
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.systems.discretization import euler_input
from ssm_analysis.xp import Array, array_namespace, device, double, to_numpy

IN_FRONT = {
    "in_proj.weight": "2*d_inner d_model",
    "in_proj.bias": "2*d_inner",
    "conv1d.weight": "d_inner 1 d_conv",
    "conv1d.bias": "d_inner",
}
NORMS = {"dt_layernorm.weight": "dt_rank", "b_layernorm.weight": "d_state", "c_layernorm.weight": "d_state"}
SHAPES = {
    "A_log": "d_inner d_state",
    "D": "d_inner",
    **IN_FRONT,
    "x_proj.weight": "dt_rank+2*d_state d_inner",
    "x_proj.bias": "dt_rank+2*d_state",
    "dt_proj.weight": "d_inner dt_rank",
    "dt_proj.bias": "d_inner",
    **NORMS,
}
ZAMBA_SHAPES = {
    "A_log": "heads channels d_state",
    "D": "heads channels",
    **IN_FRONT,
    "x_proj_weight": "heads dt_rank+2*d_state channels",
    "dt_proj_weight": "heads channels dt_rank",
    "dt_proj_bias": "heads channels",
}
OPTIONAL = ("in_proj.bias", "conv1d.bias", "x_proj.bias", *NORMS)
A_INITS = ("s4d_real", "near_unit")
STEP_FLOOR = 1e-4
"""Smallest initial step, ``dt_init_floor`` of the official implementation."""


def init(
    *,
    d_model: int = 64,
    d_state: int = 16,
    expand: int = 2,
    d_conv: int = 4,
    dt_rank: int | None = None,
    A_init: str = "s4d_real",
    dt_min: float = 1e-3,
    dt_max: float = 1e-1,
    seed: int = 0,
) -> Layer:
    """Initialize a layer.

    Parameters
    ----------
    d_model
        Number of features that enter the mixer.
    d_state
        Number of real states of each inner channel.
    expand
        Number of inner channels divided by ``d_model``.
    d_conv
        Number of taps of the convolution.
    dt_rank
        Width of the bottleneck of the step; by default ceil(d_model / 16).
    A_init
        ``s4d_real``: A = -(1, ..., d_state) in every channel, the default of Mamba. ``near_unit``: A = -1/2 for every
        state, which puts all eigenvalues near the circle.
    dt_min, dt_max
        Smallest and largest initial step; the steps are log-uniform and stored through the bias of the step.
    seed
        Random seed of the parameters.
    """
    check_sizes(d_model=d_model, d_state=d_state, expand=expand, d_conv=d_conv)
    dt_rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
    check_sizes(dt_rank=dt_rank)
    check_choice("A_init", A_init, A_INITS)
    check_interval("dt_min", dt_min, "dt_max", dt_max, inside=(np.finfo(np.float64).tiny, np.inf))
    rng, d_inner = generator(seed), expand * d_model

    def linear(shape: tuple[int, ...], fan_in: int) -> np.ndarray:  # torch's default for linear and convolution
        return rng.uniform(-1, 1, shape) / math.sqrt(fan_in)

    rates = np.arange(1, d_state + 1.0) if A_init == "s4d_real" else np.full(d_state, 0.5)
    step_bias = initial_step_bias(rng, dt_min, dt_max, d_inner)
    params = {
        "A_log": np.tile(np.log(rates), (d_inner, 1)),
        "D": np.ones(d_inner),
        "in_proj.weight": linear((2 * d_inner, d_model), d_model),
        "conv1d.weight": linear((d_inner, 1, d_conv), d_conv),
        "conv1d.bias": linear((d_inner,), d_conv),
        "x_proj.weight": linear((dt_rank + 2 * d_state, d_inner), d_inner),
        "dt_proj.weight": linear((d_inner, dt_rank), dt_rank),
        "dt_proj.bias": step_bias,
    }
    return initialized("s6", params, conv_padding="causal", dt_offset=0.0, mixer_rms_eps=None)


def initial_step_bias(rng: np.random.Generator, dt_min: float, dt_max: float, count: int) -> Float[np.ndarray, " count"]:
    """Draw softplus^-1 of steps that are log-uniform on [dt_min, dt_max] and at least STEP_FLOOR."""
    step = np.maximum(np.exp(log_uniform(rng, dt_min, dt_max, (count,))), STEP_FLOOR)
    return step + np.log(-np.expm1(-step))


def along(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, channels: slice | None = None) -> DiagonalLTV:
    """Return the systems of the layer along ``u``, of one input and one output each: batch shape (d_inner,).

    Parameters
    ----------
    params
        The parameters of the glossary.
    u
        The input of the mixer, after the norm, from the first token of one document.
    options
        The options of the layer; see `Options`.
    channels
        Slice of the inner channels to compute; by default all.
    """
    return recurrence(params, u, options, channels=channels).system()


def windows(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, size: int) -> Iterator[DiagonalLTV]:
    """Yield the systems of `along`, ``size`` channels at a time; the projections that they share are computed once."""
    chosen = _selection(params, u, options)
    d_inner = chosen.delta.shape[1]
    return (chosen.recurrence(slice(start, min(start + size, d_inner))).system() for start in range(0, d_inner, size))


def recurrence(
    params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, channels: slice | None = None
) -> DiagonalRecurrence:
    """Return the recurrence along ``u``, read out after the update as in the paper; trainable layers run it."""
    chosen = _selection(params, u, options)
    return chosen.recurrence(slice(None) if channels is None else channels)


@dataclass(frozen=True, eq=False)
class _Selection:
    """Coefficients along one input, before they are expanded to all channels and states."""

    a: Float[Array, "d_inner n"]
    delta: Float[Array, "l d_inner"]
    B: Float[Array, "l heads n"]
    C: Float[Array, "l heads n"]
    D: Float[Array, " d_inner"]

    def recurrence(self, channels: slice) -> DiagonalRecurrence:
        """Return the recurrence of some channels."""
        B, C = (self._of_head(x, channels) for x in (self.B, self.C))
        log_poles, B = euler_input(self.a[channels, :], B[..., None], self.delta[:, channels, None])
        return DiagonalRecurrence(log_poles=log_poles, B=B, C=C[..., None, :], D=self.D[channels][:, None, None])

    def _of_head(self, x: Float[Array, "l heads n"], channels: slice) -> Float[Array, "l channels n"]:
        """Return ``x`` of the head of each channel; with one head this is a view."""
        xp, heads, d_inner = array_namespace(x), x.shape[1], self.delta.shape[1]
        mine = range(d_inner)[channels]
        if heads == 1:
            return xp.broadcast_to(x, (x.shape[0], len(mine), x.shape[2]))
        return xp.take(x, xp.asarray([i * heads // d_inner for i in mine], device=device(x)), axis=1)


def _selection(params: Params, u: Float[Array, "l d_model"], options: Options) -> _Selection:
    x = core_input(params, u, options)[..., 0]
    xp, p = array_namespace(x), with_heads(params)
    heads, channels, n = p["A_log"].shape
    length, rank = x.shape[0], p["dt_proj.weight"].shape[-1]
    by_head = xp.moveaxis(xp.reshape(x, (length, heads, channels)), 1, 0)
    selected = xp.matmul(by_head, xp.matrix_transpose(p["x_proj.weight"])) + p.get("x_proj.bias", 0.0)
    r, B, C = selected[..., :rank], selected[..., rank : rank + n], selected[..., rank + n : rank + 2 * n]
    if options.mixer_rms_eps is not None:
        r, B, C = (_rms_normalized(v, options.mixer_rms_eps) * p.get(name, 1.0) for v, name in zip((r, B, C), NORMS, strict=True))
    step = xp.matmul(r, xp.matrix_transpose(p["dt_proj.weight"])) + p["dt_proj.bias"][:, None, :]
    delta = options.delta_scale * (apply_transform("softplus", step) + options.dt_offset)
    delta, B, C = (xp.moveaxis(v, 1, 0) for v in (delta, B, C))
    return _Selection(
        a=-xp.exp(xp.reshape(p["A_log"], (heads * channels, n))),
        delta=xp.reshape(delta, (length, heads * channels)),
        B=B,
        C=C,
        D=xp.reshape(p["D"], (heads * channels,)),
    )


def core_input(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Float[Array, "l d_inner 1"]:
    """Return x = SiLU(conv(W_in u)), which drives the recurrence."""
    _check(params, u, options)
    xp, p = array_namespace(*params.values()), with_heads(params)
    x = xp.matmul(u, xp.matrix_transpose(p["in_proj.weight"])) + p.get("in_proj.bias", 0.0)
    x = depthwise(x, p["conv1d.weight"][:, 0, :], p.get("conv1d.bias"), padding=options.conv_padding)
    return (x * apply_transform("sigmoid", x))[..., None]


def reference(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Float[np.ndarray, "l d_inner 1"]:
    """Run the recurrence of the paper token by token and head by head."""
    _check(params, u, options)
    p = {name: to_numpy(double(v)) for name, v in with_heads(params).items()}
    L, (heads, channels, n), K = u.shape[0], p["A_log"].shape, p["conv1d.weight"].shape[2]
    ahead = 0 if options.conv_padding == "causal" else K - 1 - (K - 1) // 2
    x_in = to_numpy(u) @ p["in_proj.weight"].T + p.get("in_proj.bias", 0.0)
    x_in = np.concatenate([np.zeros((K - 1, heads * channels)), x_in, np.zeros((ahead, heads * channels))])

    def normalized(v: np.ndarray, name: str) -> np.ndarray:
        return v if options.mixer_rms_eps is None else v / np.sqrt(np.mean(v**2) + options.mixer_rms_eps) * p.get(name, 1.0)

    h, y = np.zeros((heads, channels, n)), np.empty((L, heads, channels))
    for k in range(L):
        window = x_in[k + ahead : k + ahead + K]  # the last K inputs, up to `ahead` tokens ahead
        x = np.sum(p["conv1d.weight"][:, 0].T * window, axis=0) + p.get("conv1d.bias", 0.0)
        x = (x / (1 + np.exp(-x))).reshape(heads, channels)
        for i in range(heads):
            selected = p["x_proj.weight"][i] @ x[i] + p.get("x_proj.bias", 0.0)
            r, B, C = map(normalized, np.split(selected, [p["dt_proj.weight"].shape[2], -n]), NORMS)
            delta = options.delta_scale * (np.log1p(np.exp(p["dt_proj.weight"][i] @ r + p["dt_proj.bias"][i])) + options.dt_offset)
            h[i] = np.exp(-delta[:, None] * np.exp(p["A_log"][i])) * h[i] + delta[:, None] * B * x[i][:, None]
            y[k, i] = h[i] @ C + p["D"][i] * x[i]
    return y.reshape(L, -1, 1)


def with_heads(params: Params) -> dict[str, Array]:
    """Return the parameters under Mamba's names, with heads on axis 0 (Mamba has one head) and only the rows of x in in_proj."""
    if "x_proj_weight" in params:
        p = {name.replace("_proj_", "_proj."): x for name, x in params.items()}
        return p | {name: x[::2, ...] for name, x in p.items() if name.startswith("in_proj.")}
    p, d_inner = dict(params), params["D"].shape[0]
    p |= {name: p[name][None, ...] for name in ("A_log", "D", "x_proj.weight", "dt_proj.weight", "dt_proj.bias")}
    return p | {name: x[:d_inner, ...] for name, x in p.items() if name.startswith("in_proj.")}


def _rms_normalized(x: Float[Array, "*batch n"], eps: float) -> Float[Array, "*batch n"]:
    """Return x / sqrt(mean(x^2) + eps)."""
    xp = array_namespace(x)
    return x / xp.sqrt(xp.mean(x * x, axis=-1, keepdims=True) + eps)


def _check(params: Params, u: Array, options: Options) -> None:
    """Raise an error that says which parameter is missing or does not fit the others, the input or the options."""
    zamba = [name for name in params if name not in SHAPES and name in ZAMBA_SHAPES]
    sizes = check_params("s6", params, ZAMBA_SHAPES if zamba else SHAPES, optional=OPTIONAL)
    if zamba and sizes["heads"] * sizes["channels"] != sizes["d_inner"]:
        got = f"{sizes['heads']} heads of {sizes['channels']} channels"
        raise ValueError(f"the heads of an S6 must cover its width d_inner = {sizes['d_inner']}, got {got}")
    norms = [name for name in NORMS if name in params]
    if norms and len(norms) < len(NORMS):
        raise KeyError(f"an S6 with layer norms needs all of {', '.join(NORMS)}, got {', '.join(norms)}")
    if norms and options.mixer_rms_eps is None:
        raise ValueError(f"an S6 with {', '.join(NORMS)} needs mixer_rms_eps (Jamba's rms_norm_eps, by default 1e-6), got None")
    check_input(u, sizes["d_model"])


def at_bias(params: Params, options: Options = DEFAULTS) -> Float[Array, "d_inner n"]:
    """Return delta A with the step softplus(b_dt) of each channel."""
    xp, p = array_namespace(*params.values()), with_heads(params)
    delta = options.delta_scale * (apply_transform("softplus", p["dt_proj.bias"]) + options.dt_offset)
    return xp.reshape(-xp.exp(p["A_log"]) * delta[..., None], (-1, p["A_log"].shape[-1]))
