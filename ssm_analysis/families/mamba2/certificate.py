r"""Mamba-2 for every input behind a norm: the step is linear in the normalized input, so its range is exact (T3).

    delta = clip(softplus(w_h u + b_h + dt_bias)),   S' = exp(-a delta) S + delta x B^T,   y = S C + D x.

lambda is common to a head, so by T1 every entry of S stays below phi |x_p| |B_n|. x, B and C pass convolution and SiLU: their ranges
are exact entry by entry.
"""

import itertools
import math
from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval, above, counted, exp, softplus
from ssm_analysis.certificates.search import large_states, search_of, slow_inputs
from ssm_analysis.certificates.selective import Ranges, selective_answers
from ssm_analysis.certificates.slices import phi_above
from ssm_analysis.certificates.window import Window, window_of
from ssm_analysis.families.mamba2.model import sizes_of

COVERED = (
    "n_groups",
    "d_ssm",
    "D_has_hdim",
    "time_step_limit",
    "ssm_in_multiplier",
    "ssm_multipliers",
    "delta_scale",
)
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of a Mamba-2 layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of Mamba-2 are not covered by a theorem here")
    return selective_answers(inquiry, ranges(inquiry))


def ranges(inquiry: Inquiry) -> Ranges:
    """Return the ranges of decay rate, state and output of all heads; channels are (heads, headdim)."""
    p, options = inquiry.params(), inquiry.layer.options
    width = p["in_proj.weight"].shape[1]
    heads, headdim, groups, N, _ = sizes_of(p, np.zeros((1, width)), options)
    low, high = options.time_step_limit
    scale = float(options.delta_scale)  # of the clamped step: a and the input are multiplied by it
    a = exp(Interval.exact(p["A_log"])) * Interval.exact(np.full_like(p["A_log"], scale))
    pre = _step(inquiry, p, heads)
    delta = softplus(pre)
    delta = Interval(np.clip(delta.lo, low, high), np.clip(delta.hi, low, high))
    rate = np.repeat((a.lo * delta.lo * (1 - 2.0**-50))[:, None], headdim, axis=1)
    state = np.full((heads, headdim, N), math.inf)
    output = np.full((heads, headdim), math.inf)
    slow = large = seen = None
    if inquiry.inputs is not None:
        x, B, C = _sizes_behind_silu(inquiry, p, heads, headdim, groups, N)
        phi = above(phi_above(a, delta.hi) * scale, 2)
        state = above(phi[:, None, None] * x[:, :, None] * B[:, None, :], 8)
        norm_BC = np.minimum(np.sum(B * C, axis=1), np.sqrt(np.sum(B**2, axis=1) * np.sum(C**2, axis=1)) * (1 + counted(N + 8)))
        D = np.broadcast_to(np.reshape(p["D"], (heads, -1)), (heads, headdim))
        output = above(phi[:, None] * x * norm_BC[:, None] + np.abs(D) * x, N + 16)
        search = search_of(inquiry, taps=p["conv1d.weight"].shape[-1])
        slow = slow_inputs(search, rate)
        if inquiry.effort == "witness":
            large, seen = large_states(search, state)
    return Ranges(
        rate=rate,
        decays=low > 0 or bool(high > 0),
        state=np.max(state, axis=-1),
        output=output,
        slow=slow,
        large=large,
        state_seen=seen,
        theorems={"rate": "T2", "state": "T1"},
        quantities={"step": Quantity(lower=float(np.min(delta.lo)), upper=float(np.max(delta.hi)), unit="(before delta_scale)")},
        per_channel={"step, lower": delta.lo, "step, upper": delta.hi},
        reasons={"sign": "the step is clamped to 0"} if high == 0 else {},
    )


def _step(inquiry: Inquiry, p: dict[str, np.ndarray], heads: int) -> Interval:
    """Bound r + dt_bias by T3; a row without convolution is a window with the single tap 1."""
    if inquiry.inputs is None:
        infinite = np.full(heads, math.inf)
        return Interval(-infinite, infinite)
    window = _window(
        inquiry, p, slice(-heads, None), np.full(heads, inquiry.layer.options.ssm_multipliers[4]), np.ones((heads, 1)), p["dt_bias"]
    )
    return window.s


def _window(inquiry: Inquiry, p: dict[str, np.ndarray], rows: slice, scale: np.ndarray, taps: np.ndarray, conv_bias: np.ndarray) -> Window:
    assert inquiry.inputs is not None
    weight = p["in_proj.weight"][rows]
    bias = p["in_proj.bias"][rows] if "in_proj.bias" in p else np.zeros(len(weight))
    return window_of(
        weight=weight, bias=bias, taps=taps, conv_bias=conv_bias, inputs=inquiry.inputs, padding="causal",
        row_scale=scale, in_scale=float(inquiry.layer.options.ssm_in_multiplier),
    )  # fmt: skip


def _sizes_behind_silu(
    inquiry: Inquiry, p: dict[str, np.ndarray], heads: int, headdim: int, groups: int, N: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bound |x| (heads, headdim), |B| and |C| (heads, N) after convolution and SiLU."""
    d, rows = heads * headdim, p["in_proj.weight"].shape[0]
    multipliers = inquiry.layer.options.ssm_multipliers
    first = rows - heads - d - 2 * groups * N
    taps = p["conv1d.weight"][:, 0]
    bias = p.get("conv1d.bias", np.zeros(len(taps)))
    ends = list(itertools.accumulate((d, groups * N, groups * N), initial=0))
    out = []
    for k, (start, end) in enumerate(itertools.pairwise(ends)):
        scale = np.full(end - start, float(multipliers[1 + k]))
        out.append(_window(inquiry, p, slice(first + start, first + end), scale, taps[start:end], bias[start:end]).u.size())
    x, B, C = out
    B, C = (np.repeat(v.reshape(groups, N), heads // groups, axis=0) for v in (B, C))
    return x.reshape(heads, headdim), B, C
