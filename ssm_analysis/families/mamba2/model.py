r"""Mamba-2 (SSD): one decay per head, the same for all states of all its channels.

    (z, x, B, C, r)[k] = W_in u[k],   (x, B, C) <- SiLU(conv(x, B, C)),   delta[k] = softplus(r[k] + dt_bias)   per head,
    h[k] = exp(delta[k] A) h[k-1] + delta[k] B[k] x[k],   y[k] = C[k] h[k] + D x[k],   A = -exp(A_log).

As in S6 the state is discretized exactly, the input by Euler. The gate SiLU(z), the norm and the output projection that follow
are not part of the recurrence. Mamba-2 is not one of the six models of arXiv 2403.16899: its features only continue their table.

Glossary
--------
d_model           features that enter the mixer
heads, headdim    each of the heads headdim channels of a head is a system of its own; those of one head have the same A, B, C
d_ssm             heads headdim, by default expand d_model
d_state           real states per channel, all with the pole exp(delta A) of their head
n_groups          groups of heads that share B and C: head j is in group j // (heads / n_groups)
d_mlp             half the rows of a gated MLP beside the recurrence, where d_ssm is less than expand d_model
A_log (heads), dt_bias (heads)                           decay rate, and step before softplus
D (heads), or (d_ssm) with D_has_hdim                    feed-through
in_proj.weight (2 d_mlp + 2 d_ssm + 2 n_groups d_state + heads, d_model), in_proj.bias      rows: MLP, z, x, B, C, r
conv1d.weight (d_ssm + 2 n_groups d_state, 1, d_conv), conv1d.bias                          short convolution of x, B, C

The biases of in_proj and conv1d may be missing. What else differs between the models of this family are options:

================  ==========================================================================================
Mamba-2           time_step_limit (officially dt_limit), D_has_hdim, d_ssm, n_groups (officially ngroups)
Bamba, Granite 4  n_groups (mamba_n_groups), time_step_limit
Falcon-H1         the same, and ssm_in_multiplier, ssm_multipliers
Nemotron-H        n_groups; time_step_limit = (time_step_min, inf): clamped from below alone
Zamba2            the same, n_groups is its mamba_ngroups
================  ==========================================================================================

References
----------
Dao, Gu, Transformers are SSMs, arXiv 2405.21060, sections 5 to 7; names and defaults as in the official implementation, the
other models as in Hugging Face transformers.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.mamba2.options import DEFAULTS, ONES, UNLIMITED, Options
from ssm_analysis.families.s6.model import initial_step_bias
from ssm_analysis.families.shared.convolution import depthwise
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.parameters import (
    check_choice,
    check_input,
    check_interval,
    check_params,
    check_sizes,
    generator,
)
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.systems.diagonal import read_before
from ssm_analysis.systems.discretization import euler_input
from ssm_analysis.xp import Array, array_namespace, device, double, matmul, to_numpy

SHAPES = {
    "A_log": "heads",
    "dt_bias": "heads",
    "D": "heads",
    "in_proj.weight": "rows d_model",
    "in_proj.bias": "rows",
    "conv1d.weight": "mixed 1 d_conv",
    "conv1d.bias": "mixed",
}
OPTIONAL = ("in_proj.bias", "conv1d.bias")
A_INITS = ("uniform", "arange")
HEADDIM = 64
"""Channels per head, the default of the official implementation."""


def init(
    *,
    d_model: int = 64,
    d_state: int = 128,
    expand: int = 2,
    headdim: int | None = None,
    n_groups: int = 1,
    d_conv: int = 4,
    A_init: str = "uniform",
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
        Number of real states of each channel.
    expand
        Number of channels divided by ``d_model``.
    headdim
        Number of channels of each head; by default 64, or all channels in one head if there are fewer.
    n_groups
        Number of groups of heads that share B and C.
    d_conv
        Number of taps of the convolution.
    A_init
        ``uniform``: -A uniform on [1, 16], as the official implementation. ``arange``: -A = 1, ..., heads, as in Hugging
        Face transformers: the more heads, the faster the last ones forget.
    dt_min, dt_max
        Smallest and largest initial step; the steps are log-uniform and stored through dt_bias.
    seed
        Random seed of the parameters.
    """
    check_sizes(d_model=d_model, d_state=d_state, expand=expand, n_groups=n_groups, d_conv=d_conv)
    d_ssm = expand * d_model
    headdim = min(HEADDIM, d_ssm) if headdim is None else headdim
    check_sizes(headdim=headdim)
    if d_ssm % headdim:
        raise ValueError(f"headdim must divide expand d_model = {d_ssm}, got {headdim}")
    heads, mixed = d_ssm // headdim, d_ssm + 2 * n_groups * d_state
    if heads % n_groups:
        raise ValueError(f"n_groups must divide the number of heads, {heads}, got {n_groups}")
    check_choice("A_init", A_init, A_INITS)
    check_interval("dt_min", dt_min, "dt_max", dt_max, inside=(np.finfo(np.float64).tiny, np.inf))
    rng = generator(seed)

    def linear(shape: tuple[int, ...], fan_in: int) -> np.ndarray:  # torch's default for linear and convolution
        return rng.uniform(-1, 1, shape) / math.sqrt(fan_in)

    params = {
        "A_log": np.log(rng.uniform(1, 16, heads) if A_init == "uniform" else np.arange(1, heads + 1.0)),
        "dt_bias": initial_step_bias(rng, dt_min, dt_max, heads),
        "D": np.ones(heads),
        "in_proj.weight": linear((d_ssm + mixed + heads, d_model), d_model),
        "conv1d.weight": linear((mixed, 1, d_conv), d_conv),
        "conv1d.bias": linear((mixed,), d_conv),
    }
    options = {"n_groups": n_groups, "d_ssm": None, "D_has_hdim": False, "time_step_limit": UNLIMITED}
    return initialized("mamba2", params, **options, ssm_in_multiplier=1.0, ssm_multipliers=ONES)


def along(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, channels: slice | None = None) -> DiagonalLTV:
    """Return the systems of the layer along ``u``, of one input and one output each: batch shape (heads, headdim).

    The channels of a head share one copy of their matrices, also after indexing: the fields have l heads headdim d_state entries and
    occupy the memory of l heads d_state. `simulate` writes out the states, l headdim d_state numbers for each head, so simulate a
    large layer one head at a time, ``simulate(sys[j], x[:, j])``.

    Parameters
    ----------
    params
        The parameters of the glossary.
    u
        The input of the mixer, after the norm, from the first token of one document.
    options
        The options of the layer; see `Options`.
    channels
        Slice of the heads to compute, with all their channels; by default all heads.
    """
    return _control_form(recurrence(params, u, options, channels=channels))


def windows(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, size: int) -> Iterator[DiagonalLTV]:
    """Yield the systems of `along`, ``size`` heads at a time; the projections that they share are computed once."""
    chosen = _selection(params, u, options)
    heads = chosen.delta.shape[1]
    return (_control_form(chosen.recurrence(slice(start, min(start + size, heads)))) for start in range(0, heads, size))


def recurrence(
    params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS, *, channels: slice | None = None
) -> DiagonalRecurrence:
    """Return the recurrence along ``u``, read out after the update as in the paper; trainable layers run it."""
    chosen = _selection(params, u, options)
    return chosen.recurrence(slice(None) if channels is None else channels)


def core_input(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Float[Array, "l heads headdim 1"]:
    """Return x after the convolution and SiLU, which drives the recurrence."""
    sizes = sizes_of(params, u, options)
    return _projected(params, u, sizes, options)[0][..., None]


def reference(params: Params, u: Float[Array, "l d_model"], options: Options = DEFAULTS) -> Float[np.ndarray, "l heads headdim 1"]:
    """Run the recurrence of the paper token by token."""
    heads, headdim, _, N, d_mlp = sizes_of(params, u, options)
    p, (low, high) = {name: to_numpy(double(v)) for name, v in params.items()}, options.time_step_limit
    d, L, K = heads * headdim, u.shape[0], p["conv1d.weight"].shape[2]
    projected = options.ssm_in_multiplier * to_numpy(u) @ p["in_proj.weight"].T + p.get("in_proj.bias", 0.0)
    projected = projected[:, 2 * d_mlp :] * np.repeat(options.ssm_multipliers, [d, d, options.n_groups * N, options.n_groups * N, heads])
    past = np.concatenate([np.zeros((K - 1, len(p["conv1d.weight"]))), projected[:, d:-heads]])
    h, y = np.zeros((heads, headdim, N)), np.empty((L, heads, headdim, 1))
    for k in range(L):
        mixed = np.sum(p["conv1d.weight"][:, 0].T * past[k : k + K], axis=0) + p.get("conv1d.bias", 0.0)
        x, B, C = np.split(mixed / (1 + np.exp(-mixed)), [d, d + options.n_groups * N])
        x, B, C = x.reshape(heads, headdim), *(np.repeat(v.reshape(options.n_groups, N), heads // options.n_groups, axis=0) for v in (B, C))
        delta = options.delta_scale * np.clip(np.log1p(np.exp(projected[k, -heads:] + p["dt_bias"])), low, high)
        for j in range(heads):
            h[j] = np.exp(-delta[j] * np.exp(p["A_log"][j])) * h[j] + delta[j] * np.outer(x[j], B[j])
            y[k, j, :, 0] = h[j] @ C[j] + p["D"].reshape(heads, -1)[j] * x[j]
    return y


@dataclass(frozen=True, eq=False)
class _Selection:
    """Coefficients along one input, before they are expanded to all heads and states."""

    a: Float[Array, " heads"]
    delta: Float[Array, "l heads"]
    B: Float[Array, "l groups n"]
    C: Float[Array, "l groups n"]
    D: Float[Array, "heads headdim"]

    def recurrence(self, channels: slice) -> DiagonalRecurrence:
        """Return the recurrence of some heads."""
        xp = array_namespace(self.delta)
        heads, groups = self.delta.shape[1], self.B.shape[1]
        group = xp.asarray([i * groups // heads for i in range(heads)[channels]], device=device(self.B))
        B, C = (xp.take(x, group, axis=1)[:, :, None, :] for x in (self.B, self.C))  # the heads of a group share B and C
        log_poles, B = euler_input(self.a[channels][:, None, None], B[..., None], self.delta[:, channels, None, None])
        return DiagonalRecurrence(
            log_poles=xp.broadcast_to(log_poles, B.shape[:-1]), B=B, C=C[..., None, :], D=self.D[channels, :, None, None]
        )


def _selection(params: Params, u: Float[Array, "l d_model"], options: Options) -> _Selection:
    sizes = sizes_of(params, u, options)
    low, high = options.time_step_limit
    xp = array_namespace(*params.values())
    _, B, C, r = _projected(params, u, sizes, options)
    return _Selection(
        a=-xp.exp(params["A_log"]),
        delta=options.delta_scale * xp.clip(apply_transform("softplus", r + params["dt_bias"]), low, high),
        B=B,
        C=C,
        D=xp.broadcast_to(xp.reshape(params["D"], (sizes.heads, -1)), (sizes.heads, sizes.headdim)),
    )


def _control_form(layer: DiagonalRecurrence) -> DiagonalLTV:
    """Return ``layer.system()``, forming C Lambda and C B once for all channels of a head, which differ in D alone."""
    head = layer[:, :1]
    return DiagonalLTV(
        log_poles=head.log_poles, B=head.B, C=read_before(head.log_poles, head.C), D=matmul(head.C, head.B) + layer.D, dt=layer.dt
    )


class Sizes(NamedTuple):
    """The sizes of the glossary."""

    heads: int
    headdim: int
    n_groups: int
    d_state: int
    d_mlp: int


def sizes_of(params: Params, u: Array, options: Options) -> Sizes:
    """Check that parameters, input and options fit each other, and return the sizes of the glossary."""
    n_groups, d_ssm = options.n_groups, options.d_ssm
    sizes = check_params("mamba2", params, SHAPES | ({"D": "d_ssm"} if options.D_has_hdim else {}), optional=OPTIONAL)
    check_input(u, sizes["d_model"])
    heads, rows, mixed = sizes["heads"], sizes["rows"], sizes["mixed"]
    width = rows - mixed - heads if d_ssm is None else d_ssm  # without an MLP, the rows that are neither convolved nor a step are z
    twice_mlp, twice_states = rows - mixed - heads - width, mixed - width
    fits = width >= 1 and twice_mlp >= 0 and twice_states >= 1
    if not fits or width % heads or heads % n_groups or twice_mlp % 2 or twice_states % (2 * n_groups):
        raise ValueError(
            "in_proj.weight of family 'mamba2' must have shape (2 d_mlp + 2 d_ssm + 2 n_groups d_state + heads, d_model) and "
            "conv1d.weight (d_ssm + 2 n_groups d_state, 1, d_conv), where heads divides d_ssm and n_groups divides heads; "
            f"got {rows} and {mixed} rows with heads = {heads}, n_groups = {n_groups}, d_ssm = {d_ssm}"
        )
    if sizes.get("d_ssm", width) != width:
        raise ValueError(f"parameter 'D' of family 'mamba2' must have shape (d_ssm) = ({width}), got ({sizes['d_ssm']})")
    N = twice_states // (2 * n_groups)
    return Sizes(heads=heads, headdim=width // heads, n_groups=n_groups, d_state=N, d_mlp=twice_mlp // 2)


def _projected(params: Params, u: Array, sizes: Sizes, options: Options) -> tuple[Array, Array, Array, Array]:
    """Return x (l, heads, headdim), B and C (l, n_groups, d_state), and r (l, heads), the step before its bias."""
    xp = array_namespace(*params.values())
    heads, headdim, groups, N, d_mlp = sizes
    d, behind_z = heads * headdim, 2 * d_mlp + heads * headdim
    projected = xp.matmul(options.ssm_in_multiplier * u, xp.matrix_transpose(params["in_proj.weight"][behind_z:, :]))
    if "in_proj.bias" in params:
        projected = projected + params["in_proj.bias"][behind_z:]
    parts = _split(projected, d, groups * N, groups * N, heads)
    x, B, C, r = (factor * v for factor, v in zip(options.ssm_multipliers[1:], parts, strict=True))
    mixed = depthwise(xp.concat([x, B, C], axis=1), params["conv1d.weight"][:, 0, :], params.get("conv1d.bias"))
    x, B, C = _split(mixed * apply_transform("sigmoid", mixed), d, groups * N, groups * N)
    return xp.reshape(x, (-1, heads, headdim)), xp.reshape(B, (-1, groups, N)), xp.reshape(C, (-1, groups, N)), r


def _split(x: Float[Array, "l width"], *widths: int) -> list[Array]:
    """Split the columns into consecutive blocks of these widths."""
    ends = list(itertools.accumulate(widths))
    return [x[:, end - width : end] for width, end in zip(widths, ends, strict=True)]


def at_bias(params: Params, options: Options = DEFAULTS) -> Float[Array, "heads 1"]:
    """Return delta A with the step softplus(dt_bias) of each head, which all states of its channels share."""
    xp, (low, high) = array_namespace(*params.values()), options.time_step_limit
    delta = options.delta_scale * xp.clip(apply_transform("softplus", params["dt_bias"]), low, high)
    return (-xp.exp(params["A_log"]) * delta)[:, None]
