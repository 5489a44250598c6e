r"""S6 (Mamba) for every input behind a norm, head by head: the step, the state and the output.

    u = silu(s),   pre = W_dt W_r u + W_dt b_r + b_dt,   B = W_B u + b_B,   C = W_C u + b_C,   delta = softplus(pre) + dt_offset.

Rows through SiLU by T4, the state by T1 on slices (T5). Where r, B and C are divided by their root mean squares the ranges of
the step, B and C need no norm in front.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval, above, counted, downward, exp, row_norms, softplus, upward
from ssm_analysis.certificates.search import ENTRIES, STATES, Search, ascend, fields_along, large_states, search_of, slow_inputs
from ssm_analysis.certificates.selective import Ranges, selective_answers
from ssm_analysis.certificates.slices import state_bounds, targets
from ssm_analysis.certificates.window import Rows, Window, above_any, rows_of, window_of
from ssm_analysis.families.base import Layer
from ssm_analysis.families.s6.model import NORMS, with_heads


@dataclass(frozen=True, eq=False, kw_only=True)
class Head:
    """The weights of one head, in doubles, and the window in front of it (None where nothing bounds the input)."""

    a: Interval
    D: np.ndarray
    x_proj: np.ndarray
    x_bias: np.ndarray
    dt_proj: np.ndarray
    dt_bias: np.ndarray
    norms: tuple[np.ndarray, ...] | None
    window: Window | None

    @property
    def parts(self) -> tuple[slice, slice, slice]:
        """Return the rows of r, B and C."""
        rank, n = self.dt_proj.shape[1], self.a.lo.shape[1]
        return slice(0, rank), slice(rank, rank + n), slice(rank + n, rank + 2 * n)


COVERED = ("conv_padding", "dt_offset", "mixer_rms_eps", "delta_scale")
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an S6 layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of S6 are not covered by a theorem here")
    return selective_answers(inquiry, ranges(inquiry))


def ranges(inquiry: Inquiry) -> Ranges:
    """Return the ranges of decay rate, state and output of all heads together."""
    options = inquiry.layer.options
    parts = [_head_ranges(inquiry, head) for head in heads(inquiry)]
    rate, state, output, pre_lo, pre_hi = (np.concatenate([p[i] for p in parts]) for i in range(5))
    offset = float(options.dt_offset)
    normalized = options.mixer_rms_eps is not None
    step = softplus(Interval(pre_lo, pre_hi))
    slow = large = seen = None
    found: dict[str, np.ndarray] = {}
    if inquiry.inputs is not None:
        taps = inquiry.params()["conv1d.weight"].shape[-1]
        search = search_of(inquiry, taps=taps, ahead=0 if options.conv_padding == "causal" else taps // 2)
        slow = slow_inputs(search, rate)
        if inquiry.effort == "witness":
            large, seen = large_states(search, state)
            low, high = extreme_steps(inquiry, search, len(rate))
            found = {"step before softplus, seen lower": low, "step before softplus, seen upper": high}
    return Ranges(
        rate=rate,
        decays=offset >= 0,
        state=np.max(state, axis=-1),
        output=output,
        slow=slow,
        large=large,
        state_seen=seen,
        theorems={"rate": "RMS" if normalized and inquiry.inputs is None else "T2", "state": "T5" if inquiry.effort != "fast" else "T4"},
        quantities={"step": _step(step, offset, float(options.delta_scale))},
        per_channel={"step before softplus, lower": pre_lo, "step before softplus, upper": pre_hi, **found},
        reasons=dict.fromkeys(("sign", "state"), f"dt_offset = {offset} is negative, so the step may be") if offset < 0 else {},
    )


def extreme_steps(inquiry: Inquiry, search: Search, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest step before softplus that a search saw in each channel, NaN where it did not look."""
    layer = inquiry.lifted_layer()
    assert isinstance(layer, Layer)
    options = {k: v for k, v in layer.assumptions.items() if k not in ("dt_offset", "delta_scale")}
    search = replace(search, layer=replace(layer, assumptions=options))
    rates = np.exp(np.reshape(layer.params["A_log"], (channels, -1))[:, 0])
    picked = np.unique(np.linspace(0, channels - 1, min(STATES, channels)).round().astype(int))
    low, high = np.full(channels, np.nan), np.full(channels, np.nan)
    step = max(1, ENTRIES // (layer.params["A_log"].size * search.taps))
    for start in range(0, len(picked), step):
        some = [(int(k), 0) for k in picked[start : start + step]]
        for seen, sign in ((low, 1.0), (high, -1.0)):
            windows = ascend(search, some, lambda mu, drive, xp, sign=sign: sign * mu)
            mu, _ = fields_along(search.layer, np.concatenate([windows[0][:1], *windows]), np)
            for k, (channel, _) in enumerate(some):
                delta = -mu[1 + k * search.taps + search.position, channel, 0] / rates[channel]
                seen[channel] = delta + math.log(-math.expm1(-delta)) if delta > 0 else -math.inf
    return low, high


def _step(softplus_of: Interval, offset: float, scale: float) -> Quantity:
    low, high = float(np.min(softplus_of.lo)) + offset, float(np.max(softplus_of.hi)) + offset
    return Quantity(lower=float(downward(scale * low)), upper=float(upward(scale * high)), unit="(dimensionless)")


def heads(inquiry: Inquiry) -> list[Head]:
    """Return the heads of the layer; Mamba has one."""
    p = with_heads(inquiry.params())
    zero = np.zeros(p["x_proj.weight"].shape[1])
    count, channels, _ = p["A_log"].shape
    options = inquiry.layer.options
    eps, scale = options.mixer_rms_eps, float(options.delta_scale)
    rank, n = p["dt_proj.weight"].shape[2], p["A_log"].shape[2]
    norms = None if eps is None else tuple(p.get(name, np.ones(size)) for name, size in zip(NORMS, (rank, n, n), strict=True))
    window = None
    if inquiry.inputs is not None:
        zeros = np.zeros(p["in_proj.weight"].shape[0])
        window = window_of(
            weight=p["in_proj.weight"],
            bias=p.get("in_proj.bias", zeros),
            taps=p["conv1d.weight"][:, 0],
            conv_bias=p.get("conv1d.bias", zeros),
            inputs=inquiry.inputs,
            padding=options.conv_padding,
        )
    return [
        Head(
            a=exp(Interval.exact(p["A_log"][i])) * Interval.exact(np.full_like(p["A_log"][i], scale)),
            D=p["D"][i],
            x_proj=p["x_proj.weight"][i],
            x_bias=p.get("x_proj.bias", zero),
            dt_proj=p["dt_proj.weight"][i],
            dt_bias=p["dt_proj.bias"][i],
            norms=norms,
            window=None if window is None else window.part(slice(i * channels, (i + 1) * channels)),
        )
        for i in range(count)
    ]


def step_rows(head: Head) -> Rows:
    """Return the step before softplus as linear functions of u, one for each channel."""
    assert head.window is not None
    r = head.parts[0]
    R, rank = head.dt_proj @ head.x_proj[r], head.dt_proj.shape[1]
    error = above(counted(rank + 2) * (np.abs(head.dt_proj) @ np.abs(head.x_proj[r])), rank + 4)
    shift = head.dt_proj @ head.x_bias[r] + head.dt_bias
    radius = above(counted(rank + 4) * (np.abs(head.dt_proj) @ np.abs(head.x_bias[r]) + np.abs(head.dt_bias)), rank + 4)
    return rows_of(head.window, R, Interval.ball(shift, radius), error=error)


def _head_ranges(inquiry: Inquiry, head: Head) -> tuple[np.ndarray, ...]:
    """Bound the rate, the state (channels, d_state) and the output, and return the two ends of the step before softplus."""
    offset = float(inquiry.layer.options.dt_offset)
    channels, n = head.a.lo.shape
    unknown, window = np.full(channels, math.inf), head.window
    step, B = None, None
    if head.norms is not None:
        pre, size_B, size_C = _normalized(head)
    elif window is None:
        pre, size_B, size_C = Interval(-unknown, unknown), np.full(n, math.inf), np.full(n, math.inf)
    else:
        step = step_rows(head)
        B, C = (rows_of(window, head.x_proj[rows], Interval.exact(head.x_bias[rows])) for rows in head.parts[1:])
        pre, size_B, size_C = step.bounds(window), B.bounds(window).size(), C.bounds(window).size()
    delta = softplus(pre)
    slowest = np.nextafter(delta.lo + offset, -math.inf)
    slowest = np.maximum(slowest, 0.0) if offset >= 0 else slowest  # softplus is positive
    rate = np.min(head.a.lo, axis=1) * slowest * (1 - 2.0**-50)
    if window is None:
        return rate, np.full((channels, n), math.inf), unknown, pre.lo, pre.hi
    reach = window.u.size()
    if step is None or B is None:
        high = above_any(np.minimum(delta.hi, np.finfo(np.float64).max / 2), offset)
        state = targets(head.a, high, size_B[None, :], reach)
    else:
        state = state_bounds(window, step, B, head.a, offset=offset, joint=inquiry.effort != "fast")
    scale = float(inquiry.layer.options.delta_scale)  # of the step: a and the input are multiplied by it
    state = above(state * scale, 2)
    if offset < 0:  # T1 needs a positive step
        state = np.where(rate[:, None] > 0, state, math.inf)
    output = above(np.sum(state * size_C, axis=1) + np.abs(head.D) * reach, n + 8)
    return rate, state, output, pre.lo, pre.hi


def _normalized(head: Head) -> tuple[Interval, np.ndarray, np.ndarray]:
    """Bound the step before softplus, |B| and |C| by ||v / rms(v)|| <= sqrt(length), times the learned weights."""
    assert head.norms is not None
    w_r, w_B, w_C = head.norms
    rank, n = head.dt_proj.shape[1], len(w_B)
    reach = above(row_norms(head.dt_proj * w_r) * math.sqrt(rank), 8)
    size_B, size_C = (above(np.abs(w) * math.sqrt(n), 4) for w in (w_B, w_C))
    return Interval.exact(head.dt_bias).inflated(reach), size_B, size_C
