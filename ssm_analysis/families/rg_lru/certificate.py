r"""RG-LRU for every bounded input: both gates and x are linear in the window of inputs, so their ranges are exact (T3).

    a = exp(-c sigmoid(gate) softplus(a_param)),   h' = a h + sqrt(1 - a^2 + eps) i x.

With a <= a_max < 1: |h| <= sup |i x| sqrt((1 + a_max)/(1 - a_max)) by convex combinations, and |h_T| <= sup |i x| sqrt(T) for any gates.
"""

import math
from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import Interval, above, counted, row_norms, sigmoid, softplus
from ssm_analysis.certificates.search import large_states, search_of, slow_inputs
from ssm_analysis.certificates.selective import Ranges, selective_answers
from ssm_analysis.certificates.window import Window, window_of

COVERED = ("c", "epsilon", "reset_first")
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an RG-LRU layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of RG-LRU are not covered by a theorem here")
    if "a_imag_param" in inquiry.layer.params:
        return inquiry.all_undecided("the complex state of this RG-LRU is not covered by a theorem here")
    return selective_answers(inquiry, ranges(inquiry))


def ranges(inquiry: Inquiry) -> Ranges:
    """Return the ranges of decay rate, state and output of all channels, each of which has one state."""
    p = inquiry.params()
    c, eps = float(inquiry.layer.options.c), float(inquiry.layer.options.epsilon)
    W = p["a_param"].shape[0]
    full = Interval.exact(np.full(W, abs(c))) * softplus(Interval.exact(p["a_param"]))  # -log a with the gate open
    unknown = np.full(W, math.inf)
    gate, u = Interval(-unknown, unknown), unknown
    if inquiry.inputs is not None:
        window = _window(inquiry, p)
        gate = _gate(window, p["a_gate.w"], p["a_gate.b"])
        admits = sigmoid(_gate(window, p["input_gate.w"], p["input_gate.b"]))
        u = above(window.s.size() * admits.hi, 4)
    opened = sigmoid(gate)
    rate = np.maximum(full.lo * opened.lo * (1 - 2.0**-50), 0.0)
    state = _state(u, rate, eps)
    slow = large = seen = None
    if inquiry.inputs is not None and c > 0:
        search = search_of(inquiry, taps=p["conv_1d.w"].shape[0] if "conv_1d.w" in p else 1)
        slow = slow_inputs(search, rate)
        if inquiry.effort == "witness":
            large, seen = large_states(search, state[:, None])
    return Ranges(
        rate=rate if c > 0 else np.zeros(W),
        decays=c > 0,
        state=state if c > 0 else unknown,
        output=state if c > 0 else unknown,
        root=above(u * 1.0, 2) if eps == 0 and c > 0 else None,
        slow=slow,
        large=large,
        state_seen=seen,
        theorems={"rate": "T2", "state": "RG-LRU energy"},
        quantities={"gate": Quantity(lower=float(np.min(opened.lo)), upper=float(np.max(opened.hi)), unit="(dimensionless)")},
        per_channel={"recurrence gate, lower": opened.lo, "gated input, upper": u},
        reasons=_reasons(inquiry, c, rate),
    )


def _reasons(inquiry: Inquiry, c: float, rate: np.ndarray) -> dict[str, str]:
    if c <= 0:
        return dict.fromkeys(("rate", "state", "sign"), f"c = {c} is not positive, so log a is not negative")
    if inquiry.inputs is not None and np.min(rate) <= 0:
        return {"state": "the gate can close so far that the bound of a underflows to 1"}
    return {}


def _state(u: np.ndarray, rate: np.ndarray, eps: float) -> np.ndarray:
    """Bound the state by u sqrt(1 - a^2 + eps) / (1 - a) at a_max, and by u for the first token, which enters with gain 1.

    1 - a = 1 - e^-r >= r / (1 + r), and >= r - r^2/2; (1 + a)/(1 - a) = 2/(1 - a) - 1.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        margin = np.maximum(rate / (1 + rate), rate * (1 - rate / 2)) * (1 - 2.0**-48)
        gain = np.sqrt((2 / margin - 1) * (1 + 2.0**-48) + eps / margin**2 * (1 + 2.0**-48))
        found = above(u * np.maximum(gain, 1.0), 8)
    return np.where(np.isfinite(found), found, math.inf)


def _window(inquiry: Inquiry, p: dict[str, np.ndarray]) -> Window:
    """Return the window of x, which is the input itself or conv(linear_x(u))."""
    assert inquiry.inputs is not None
    W = p["a_param"].shape[0]
    if "linear_x.weight" not in p:
        one = np.ones((W, 1))
        return window_of(weight=np.eye(W), bias=np.zeros(W), taps=one, conv_bias=np.zeros(W), inputs=inquiry.inputs, padding="causal")
    return window_of(
        weight=p["linear_x.weight"], bias=p["linear_x.bias"], taps=p["conv_1d.w"].T, conv_bias=p["conv_1d.b"],
        inputs=inquiry.inputs, padding="causal",
    )  # fmt: skip


def _gate(window: Window, w: np.ndarray, b: np.ndarray) -> Interval:
    """Enclose x_block @ w + b, block by block: r sum_j ||(w^T k_j) W|| about the center for each set of taps."""
    heads, block, _ = w.shape
    low, high = [], []
    for i in range(heads):
        part, M = window.part(slice(i * block, (i + 1) * block)), w[i].T
        size, reach = np.abs(M), np.zeros(block)
        for k in part.taps.T:
            weighted = size @ (np.abs(k) * part.norms)
            reach = reach + row_norms((M * k) @ part.W) + (part.relative + 2 * counted(block + 8)) * weighted * (1 + 2.0**-20)
        reach = above(reach * part.radius, 16)
        middle = (part.centers.lo + part.centers.hi) / 2
        spread = above((part.centers.hi - part.centers.lo) / 2 + np.abs(middle) * 2.0**-52, 4)
        radius = above(counted(block + 6) * (np.abs(middle) @ size.T + np.abs(b[i])) + spread @ size.T, block + 8)
        center = Interval.ball(middle @ M.T + b[i], above(radius + reach, 4))
        low.append(np.min(center.lo, axis=0))
        high.append(np.max(center.hi, axis=0))
    return Interval(np.concatenate(low), np.concatenate(high))
