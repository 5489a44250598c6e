r"""S6, the selective layer of Mamba: step, input and output weights depend on the input.

    x = SiLU(conv(W_in u)),   (r, B, C)[k] = W_x x[k],   delta[k] = softplus(W_dt r[k] + b_dt)   per inner channel,
    h[k] = exp(delta[k] A) h[k-1] + delta[k] B[k] x[k],   y[k] = C[k] h[k] + D x[k],   A = -exp(A_log).

The state is discretised exactly, the input by Euler: the official code does so, while the paper states zero-order hold.
The gate SiLU(z) and the output projection that follow are not part of the recurrence.

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

The biases of in_proj (``bias=True`` in the official implementation), conv1d and x_proj (ports to other libraries) may be missing.

References
----------
Gu, Dao, Mamba, arXiv 2312.00752, Algorithm 2; names and defaults as in the official implementation. The near-unit
initialisation A = -1/2 is the ablation that the companion code of arXiv 2403.16899 leaves as a comment.
"""

import math

import numpy as np
from jaxtyping import Float

from ssm_analysis.discretization import euler_input
from ssm_analysis.families.base import Features, Params, SelectiveFamily
from ssm_analysis.families.convolution import depthwise
from ssm_analysis.families.parameters import check_choice, check_input, check_interval, check_params, check_sizes, generator, log_uniform
from ssm_analysis.families.transforms import apply_transform
from ssm_analysis.layer import Layer, initialised
from ssm_analysis.systems import DiagonalLTV, DiagonalRecurrence
from ssm_analysis.xp import Array, array_namespace, double, to_numpy

SHAPES = {
    "A_log": "d_inner d_state",
    "D": "d_inner",
    "in_proj.weight": "2*d_inner d_model",
    "in_proj.bias": "2*d_inner",
    "conv1d.weight": "d_inner 1 d_conv",
    "conv1d.bias": "d_inner",
    "x_proj.weight": "dt_rank+2*d_state d_inner",
    "x_proj.bias": "dt_rank+2*d_state",
    "dt_proj.weight": "d_inner dt_rank",
    "dt_proj.bias": "d_inner",
}
OPTIONAL = ("in_proj.bias", "conv1d.bias", "x_proj.bias")
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
    """A fresh layer.

    Parameters
    ----------
    d_model, d_state
        Features, and real states per inner channel.
    expand, d_conv
        d_inner / d_model, and the width of the convolution.
    dt_rank
        Width of the bottleneck of the step; by default ceil(d_model / 16).
    A_init
        ``s4d_real``: A = -(1, ..., d_state) in every channel, the default of Mamba. ``near_unit``: A = -1/2 for every
        state, which puts all eigenvalues near the circle.
    dt_min, dt_max
        Range of the log-uniform initial steps, stored through the bias of the step.
    seed
        Seed of numpy's default generator.
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
    step = np.maximum(np.exp(log_uniform(rng, dt_min, dt_max, (d_inner,))), STEP_FLOOR)
    params = {
        "A_log": np.tile(np.log(rates), (d_inner, 1)),
        "D": np.ones(d_inner),
        "in_proj.weight": linear((2 * d_inner, d_model), d_model),
        "conv1d.weight": linear((d_inner, 1, d_conv), d_conv),
        "conv1d.bias": linear((d_inner,), d_conv),
        "x_proj.weight": linear((dt_rank + 2 * d_state, d_inner), d_inner),
        "dt_proj.weight": linear((d_inner, dt_rank), dt_rank),
        "dt_proj.bias": step + np.log(-np.expm1(-step)),  # softplus^-1
    }
    return initialised("s6", params, conv_padding="causal", dt_offset=0.0)


def along(params: Params, u: Float[Array, "l d_model"], *, conv_padding: str = "causal", dt_offset: float = 0.0) -> DiagonalLTV:
    """The d_inner systems of the layer along ``u``: batch shape (d_inner,), one input and output each.

    Parameters
    ----------
    params
        As in the glossary.
    u
        What enters the mixer, behind the norm, from the first token of one document.
    conv_padding
        ``causal``, or ``same`` for bidirectional variants whose convolution is centred.
    dt_offset
        Added to the step behind softplus; 0 in the official implementation.
    """
    return recurrence(params, u, conv_padding=conv_padding, dt_offset=dt_offset).system()


def recurrence(params: Params, u: Float[Array, "l d_model"], *, conv_padding: str = "causal", dt_offset: float = 0.0) -> DiagonalRecurrence:
    """As `along`, read out after the update as in the paper: what a trainable layer runs."""
    xp = array_namespace(*params.values())
    x = core_input(params, u, conv_padding=conv_padding, dt_offset=dt_offset)[..., 0]
    rank, n = params["dt_proj.weight"].shape[1], params["A_log"].shape[1]
    selected = xp.matmul(x, xp.matrix_transpose(params["x_proj.weight"])) + params.get("x_proj.bias", 0.0)
    r, B, C = selected[:, :rank], selected[:, rank : rank + n], selected[:, rank + n : rank + 2 * n]
    step = xp.matmul(r, xp.matrix_transpose(params["dt_proj.weight"])) + params["dt_proj.bias"]
    delta = apply_transform("softplus", step) + dt_offset
    log_poles, B = euler_input(-xp.exp(params["A_log"]), B[:, None, :, None], delta[..., None])
    return DiagonalRecurrence(log_poles=log_poles, B=B, C=C[:, None, None, :], D=params["D"][:, None, None])


def core_input(
    params: Params, u: Float[Array, "l d_model"], *, conv_padding: str = "causal", dt_offset: float = 0.0
) -> Float[Array, "l d_inner 1"]:
    """x = SiLU(conv(W_in u)), what drives the recurrence."""
    xp, d_inner = array_namespace(*params.values()), _checked(params, u)["d_inner"]
    x = xp.matmul(u, xp.matrix_transpose(params["in_proj.weight"][:d_inner, :]))
    if "in_proj.bias" in params:
        x = x + params["in_proj.bias"][:d_inner]
    x = depthwise(x, params["conv1d.weight"][:, 0, :], params.get("conv1d.bias"), padding=conv_padding)
    return (x * apply_transform("sigmoid", x))[..., None]


def reference(
    params: Params, u: Float[Array, "l d_model"], *, conv_padding: str = "causal", dt_offset: float = 0.0
) -> Float[np.ndarray, "l d_inner 1"]:
    """The recurrence, token by token."""
    _checked(params, u)
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    L, (d_inner, n), K = u.shape[0], p["A_log"].shape, p["conv1d.weight"].shape[2]
    ahead = 0 if conv_padding == "causal" else K - 1 - (K - 1) // 2
    x_in = (to_numpy(u) @ p["in_proj.weight"].T + p.get("in_proj.bias", 0.0))[:, :d_inner]
    x_in = np.concatenate([np.zeros((K - 1, d_inner)), x_in, np.zeros((ahead, d_inner))])
    h, y = np.zeros((d_inner, n)), np.empty((L, d_inner, 1))
    for k in range(L):
        window = x_in[k + ahead : k + ahead + K]  # the last K inputs, up to `ahead` tokens ahead
        x = np.sum(p["conv1d.weight"][:, 0].T * window, axis=0) + p.get("conv1d.bias", 0.0)
        x = x / (1 + np.exp(-x))
        r, B, C = np.split(p["x_proj.weight"] @ x + p.get("x_proj.bias", 0.0), [p["dt_proj.weight"].shape[1], -n])
        delta = np.log1p(np.exp(p["dt_proj.weight"] @ r + p["dt_proj.bias"])) + dt_offset
        h = np.exp(-delta[:, None] * np.exp(p["A_log"])) * h + delta[:, None] * B * x[:, None]
        y[k, :, 0] = h @ C + p["D"] * x
    return y


def _checked(params: Params, u: Array) -> dict[str, int]:
    """The sizes of the glossary."""
    sizes = check_params("s6", params, SHAPES, optional=OPTIONAL)
    check_input(u, sizes["d_model"])
    return sizes


FAMILY = SelectiveFamily(
    name="s6",
    title="S6 (Mamba)",
    paper="arXiv 2312.00752",
    features=Features(
        dynamics="LTV: step, B, C depend on the input",
        channels="one system per inner channel, B and C shared",
        parametrisation="real diagonal, -exp(A_log)",
        discretisation="zero-order hold for A, Euler for B",
        structure="real diagonal",
        initialisation="A = -(1..N); steps log-uniform in [1e-3, 1e-1], through the bias",
        implementation="fused scan",
    ),
    init=init,
    along=along,
    core_input=core_input,
    reference=reference,
)
