r"""S6 (Mamba) for every input behind a norm, head by head: the step, the state and the output.

    u = silu(s),   pre = W_dt W_r u + W_dt b_r + b_dt,   B = W_B u + b_B,   C = W_C u + b_C,   delta = softplus(pre) + dt_offset.

Rows through SiLU by T4, the state by T1 on slices (T5). Where r, B and C are divided by their root mean squares the ranges of
the step, B and C need no norm in front.
"""

import math
from dataclasses import dataclass

import numpy as np

from ssm_analysis.certificates.certificate import Quantity
from ssm_analysis.certificates.question import Question
from ssm_analysis.certificates.rounding import Interval, above, counted, downward, exp, row_norms, softplus, upward
from ssm_analysis.certificates.search import extreme_steps, large_states, slow_inputs
from ssm_analysis.certificates.selective import Ranges
from ssm_analysis.certificates.slices import state_bounds, targets
from ssm_analysis.certificates.window import Rows, Window, above_any, rows_of, window_of
from ssm_analysis.families.s6.model import NORMS, _by_head


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
        """Rows of r, B and C."""
        rank, n = self.dt_proj.shape[1], self.a.lo.shape[1]
        return slice(0, rank), slice(rank, rank + n), slice(rank + n, rank + 2 * n)


def s6_ranges(question: Question) -> Ranges:
    """All heads together."""
    parts = [_head_ranges(question, head) for head in heads(question)]
    rate, state, output, pre_lo, pre_hi = (np.concatenate([p[i] for p in parts]) for i in range(5))
    offset = float(question.option("dt_offset", 0.0))
    normalized = question.option("mixer_rms_eps", None) is not None
    step = softplus(Interval(pre_lo, pre_hi))
    slow = large = seen = None
    found: dict[str, np.ndarray] = {}
    if question.inputs is not None:
        slow = slow_inputs(question, rate)
        if question.effort == "witness":
            large, seen = large_states(question, state)
            low, high = extreme_steps(question, len(rate))
            found = {"step before softplus, seen lower": low, "step before softplus, seen upper": high}
    return Ranges(
        rate=rate,
        decays=offset >= 0,
        state=np.max(state, axis=-1),
        output=output,
        slow=slow,
        large=large,
        state_seen=seen,
        theorems={"rate": "RMS" if normalized and question.inputs is None else "T2", "state": "T5" if question.effort != "fast" else "T4"},
        quantities={"step": _step(step, offset, float(question.option("delta_scale", 1.0)))},
        per_channel={"step before softplus, lower": pre_lo, "step before softplus, upper": pre_hi, **found},
        reasons=dict.fromkeys(("sign", "state"), f"dt_offset = {offset} is negative, so the step may be") if offset < 0 else {},
    )


def _step(softplus_of: Interval, offset: float, scale: float) -> Quantity:
    low, high = float(np.min(softplus_of.lo)) + offset, float(np.max(softplus_of.hi)) + offset
    return Quantity(lower=float(downward(scale * low)), upper=float(upward(scale * high)), unit="(dimensionless)")


def heads(question: Question) -> list[Head]:
    """The heads of the layer; Mamba has one."""
    p = _by_head(question.params())
    zero = np.zeros(p["x_proj.weight"].shape[1])
    count, channels, _ = p["A_log"].shape
    eps, scale = question.option("mixer_rms_eps", None), float(question.option("delta_scale", 1.0))
    rank, n = p["dt_proj.weight"].shape[2], p["A_log"].shape[2]
    norms = None if eps is None else tuple(p.get(name, np.ones(size)) for name, size in zip(NORMS, (rank, n, n), strict=True))
    window = None
    if question.inputs is not None:
        zeros = np.zeros(p["in_proj.weight"].shape[0])
        window = window_of(
            weight=p["in_proj.weight"],
            bias=p.get("in_proj.bias", zeros),
            taps=p["conv1d.weight"][:, 0],
            conv_bias=p.get("conv1d.bias", zeros),
            inputs=question.inputs,
            padding=question.option("conv_padding", "causal"),
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
    """pre as linear functions of u, one for each channel."""
    assert head.window is not None
    r = head.parts[0]
    R, rank = head.dt_proj @ head.x_proj[r], head.dt_proj.shape[1]
    error = above(counted(rank + 2) * (np.abs(head.dt_proj) @ np.abs(head.x_proj[r])), rank + 4)
    shift = head.dt_proj @ head.x_bias[r] + head.dt_bias
    radius = above(counted(rank + 4) * (np.abs(head.dt_proj) @ np.abs(head.x_bias[r]) + np.abs(head.dt_bias)), rank + 4)
    return rows_of(head.window, R, Interval.ball(shift, radius), error=error)


def _head_ranges(question: Question, head: Head) -> tuple[np.ndarray, ...]:
    """rate, state (channels, d_state), output, and the two ends of the step before softplus."""
    offset = float(question.option("dt_offset", 0.0))
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
        state = state_bounds(window, step, B, head.a, offset=offset, joint=question.effort != "fast")
    scale = float(question.option("delta_scale", 1.0))  # of the step: a and the input are multiplied by it
    state = above(state * scale, 2)
    if offset < 0:  # T1 needs a positive step
        state = np.where(rate[:, None] > 0, state, math.inf)
    output = above(np.sum(state * size_C, axis=1) + np.abs(head.D) * reach, n + 8)
    return rate, state, output, pre.lo, pre.hi


def _normalized(head: Head) -> tuple[Interval, np.ndarray, np.ndarray]:
    """||v / rms(v)|| <= sqrt(length), times the learned weights."""
    assert head.norms is not None
    w_r, w_B, w_C = head.norms
    rank, n = head.dt_proj.shape[1], len(w_B)
    reach = above(row_norms(head.dt_proj * w_r) * math.sqrt(rank), 8)
    size_B, size_C = (above(np.abs(w) * math.sqrt(n), 4) for w in (w_B, w_C))
    return Interval.exact(head.dt_bias).inflated(reach), size_B, size_C
