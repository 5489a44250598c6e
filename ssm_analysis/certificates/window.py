r"""What a projection, a short convolution and SiLU make of a bounded input: theorems T3 and T4.

    s = c0 + sum_j k_j * (W x_{t-j}),   ||x|| <= r,   c0 = b + q sum_{j in T} k_j,

channel by channel, where q is what the biases in front of the convolution add to every token, and T the set of taps that do not
reach beyond the ends of the document. Everything is an upper bound: W is known up to ``slack`` (2-norm of the error of each row),
c0 lies in intervals, and sums and products carry their counted rounding.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ssm_analysis.certificates.input_set import InputSet
from ssm_analysis.certificates.rounding import (
    Interval,
    above,
    counted,
    estimated_eigenvalue,
    largest_eigenvalue,
    row_norms,
    silu_range,
    silu_remainder,
)

STEPS_OF_MU = 24
"""Multipliers mu tried for each row, a factor 1.6 apart: the best of them is within 3 % of the optimum (measured)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Window:
    """One group of channels behind projection and convolution.

    Parameters
    ----------
    W, slack
        Rows on the ball of x, and bounds of their errors.
    taps
        The convolution, (channels, k).
    centers
        c0 for each set of taps, (sets, channels).
    radius
        r.
    """

    W: np.ndarray
    slack: np.ndarray
    taps: np.ndarray
    centers: Interval
    radius: float

    def part(self, rows: slice) -> "Window":
        """Return some of the channels."""
        centers = Interval(self.centers.lo[:, rows], self.centers.hi[:, rows])
        return Window(W=self.W[rows], slack=self.slack[rows], taps=self.taps[rows], centers=centers, radius=self.radius)

    @cached_property
    def norms(self) -> np.ndarray:
        """||w_c||."""
        return above(row_norms(self.W) + self.slack, 2)

    @cached_property
    def reach(self) -> np.ndarray:
        """T3: how far s_c moves from its center, ||k_c||_1 ||w_c|| r."""
        return above(np.sum(np.abs(self.taps), axis=1) * self.norms * self.radius, self.taps.shape[1] + 4)

    @cached_property
    def s(self) -> Interval:
        """The range of each s_c."""
        return Interval(np.min(self.centers.lo, axis=0), np.max(self.centers.hi, axis=0)).inflated(self.reach)

    @cached_property
    def u(self) -> Interval:
        """The range of silu(s_c)."""
        return silu_range(self.s)

    @cached_property
    def weights(self) -> np.ndarray:
        """||k_c||_2 ||w_c||: the 2-norm of the row of channel c on the stacked window."""
        return above(row_norms(self.taps) * self.norms, 2)

    @cached_property
    def relative(self) -> float:
        """Bound of the rounding and slack in inner products of rows, relative to the product of their norms."""
        size = self.norms  # slack included: a row that rounding alone made 0 has slack / size next to 1
        slack = np.max(np.where(size > 0, self.slack / np.where(size > 0, size, 1.0), 0.0), initial=0.0)
        return counted(self.W.shape[1] + self.taps.shape[1] + 16) + 4 * float(slack) * (1 + 2.0**-20)

    @cached_property
    def gram(self) -> np.ndarray:
        """Inner products of the rows on the stacked window, (channels, channels)."""
        return (self.taps @ self.taps.T) * (self.W @ self.W.T)

    @cached_property
    def stretch(self) -> float:
        """The largest singular value of x -> s on the stacked window of k balls."""
        return self._singular(self.gram, self.weights)

    @cached_property
    def joint(self) -> float:
        """sup ||s - c0||: of the sum over taps and the stacked window the one that looks smaller."""
        inner, taps = self.W @ self.W.T, self.taps.shape[1]
        stacked = self.stretch * math.sqrt(taps)
        grams = [np.outer(k, k) * inner for k in self.taps.T]
        if taps > 1 and sum(math.sqrt(estimated_eigenvalue(gram)) for gram in grams) < stacked:
            each = [self._singular(gram, above(np.abs(k) * self.norms, 2)) for k, gram in zip(self.taps.T, grams, strict=True)]
            stacked = min(stacked, sum(each))
        return float(above(np.asarray(stacked * self.radius), taps + 4))

    @cached_property
    def sizes(self) -> np.ndarray:
        """S: sup ||s|| for each set of taps."""
        center = above(np.sqrt(np.sum(self.centers.size() ** 2, axis=1)), self.W.shape[0] + 4)
        box = above(np.sqrt(np.sum(self.s.size() ** 2)), self.W.shape[0] + 4)
        return np.minimum(above(center + self.joint, 2), box)

    @cached_property
    def depth(self) -> np.ndarray:
        """rho: sup (s/2) tanh(s/2), channel by channel."""
        return silu_remainder(self.s.size())

    def _singular(self, gram: np.ndarray, weights: np.ndarray) -> float:
        error = self.relative * float(np.sum(weights**2)) * (1 + 2.0**-20)
        return math.sqrt(largest_eigenvalue(gram, error)) * (1 + 2.0**-50)


@dataclass(frozen=True, eq=False, kw_only=True)
class Rows:
    """Linear functions R u + b of u = silu(s): their bounds by T4, and what slices (T5) reuse.

    Parameters
    ----------
    R, slack
        Rows, and a bound of the effect of their errors on R u.
    offset
        b.
    center
        R c0 / 2 + b for each set of taps, (sets, rows).
    linear
        r sum_j ||(R k_j) W||.
    stacked
        sqrt(sum_j ||(R k_j) W||^2).
    up, down
        The nonnegative half of silu, for R u from above and from below.
    """

    R: np.ndarray
    slack: np.ndarray
    offset: Interval
    center: Interval
    linear: np.ndarray
    stacked: np.ndarray
    up: "Remainder"
    down: "Remainder"

    def bounds(self, window: Window) -> Interval:
        """Return the range of R u + b over all inputs."""
        size = window.sizes[:, None]
        half = self.linear / 2
        high = np.max(above_any(self.center.hi, half, self.up.bound(size), self.slack), axis=0)
        low = np.min(-above_any(-self.center.lo, half, self.down.bound(size), self.slack), axis=0)
        return Interval(low, high)


@dataclass(frozen=True, eq=False, kw_only=True)
class Remainder:
    """max{p v : 0 <= v <= rho, ||v|| <= S/2} <= min over mu of value(mu) + mu S^2 / 8, for each row p >= 0."""

    mu: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, p: np.ndarray, rho: np.ndarray, size: float) -> "Remainder":
        """Return the bound for rows p >= 0, with multipliers around the best one for S = ``size``."""
        norm = np.sqrt(np.sum(p * p, axis=1))
        first = 8 * norm / max(size, 1e-300)
        mu = first[:, None] * 1.6 ** -np.arange(STEPS_OF_MU) + 1e-290
        values = [np.sum(p * rho, axis=1)]  # mu = 0
        for m in mu.T[:, :, None]:
            v = np.minimum(p / m, rho)
            values.append(np.sum(v * (p - m * v / 2), axis=1))
        mu = np.concatenate([np.zeros((len(p), 1)), mu], axis=1)
        return cls(mu=mu, value=above(np.stack(values, axis=1), p.shape[1] + 16))

    def bound(self, size: np.ndarray) -> np.ndarray:
        """Return the bound for S of shape (..., rows) or (..., 1)."""
        best = None
        for mu, value in zip(self.mu.T, self.value.T, strict=True):
            found = value + mu * size * size / 8
            best = found if best is None else np.minimum(best, found)
        assert best is not None
        return above(best, 8)


def above_any(*terms: np.ndarray | float) -> np.ndarray:
    """Return an upper bound of a sum of a few terms of any sign, each of which is right to 2^-48 of its size or errs upward."""
    total, size = 0.0, 0.0
    for term in terms:
        total, size = total + term, size + np.abs(term)
    return np.nextafter(total + size * 2.0**-46 + 2.0**-900, np.inf)


def rows_of(window: Window, R: np.ndarray, offset: Interval, *, error: np.ndarray | None = None) -> Rows:
    """Return the rows R, known up to ``error`` entry by entry, on silu of the window."""
    size, K = np.abs(R), window.taps.shape[1]
    reach = np.maximum(np.abs(window.u.lo), np.abs(window.u.hi))
    slack = np.zeros(len(R)) if error is None else above(error @ reach, R.shape[1] + 4)
    squares, linear = np.zeros(len(R)), np.zeros(len(R))
    for k in window.taps.T:
        norm = row_norms((R * k) @ window.W) + window.relative * (size @ (np.abs(k) * window.norms)) * (1 + counted(R.shape[1]))
        norm = norm + counted(R.shape[1] + 8) * (size @ (np.abs(k) * window.norms)) * 2
        linear, squares = linear + norm, squares + norm * norm
    middle = (window.centers.lo + window.centers.hi) / 2
    spread = above((window.centers.hi - window.centers.lo) / 2 + np.abs(middle) * 2.0**-52, 4)
    radius = above((counted(R.shape[1] + 4) * (np.abs(middle) @ size.T) + spread @ size.T) / 2, R.shape[1] + 8)
    center = Interval.ball(middle @ R.T / 2, radius) + Interval(
        np.broadcast_to(offset.lo, radius.shape), np.broadcast_to(offset.hi, radius.shape)
    )
    largest = float(np.max(window.sizes))
    return Rows(
        R=R,
        slack=slack,
        offset=offset,
        center=center,
        linear=above(linear * window.radius, K + 6),
        stacked=above(np.sqrt(squares), K + 6),
        up=Remainder.of(np.maximum(R, 0.0), window.depth, largest),
        down=Remainder.of(np.maximum(-R, 0.0), window.depth, largest),
    )


def window_of(
    *,
    weight: np.ndarray,
    bias: np.ndarray,
    taps: np.ndarray,
    conv_bias: np.ndarray,
    inputs: InputSet,
    padding: str,
    row_scale: np.ndarray | None = None,
    in_scale: float = 1.0,
) -> Window:
    """Return s = conv(row_scale (in_scale W u + bias)) + conv_bias for the inputs u = weight x + bias of the set."""
    d = weight.shape[1]
    scale = np.ones(len(weight)) if row_scale is None else row_scale
    W = scale[:, None] * (in_scale * (weight * inputs.weight))
    slack = counted(8) * row_norms(W)
    if inputs.centered:
        slack = 2 * counted(d + 16) * row_norms(W)
        W = W - np.mean(W, axis=1, keepdims=True)
    q = scale * (in_scale * (weight @ inputs.bias) + bias)
    radius = counted(d + 8) * np.abs(scale) * (abs(in_scale) * (np.abs(weight) @ np.abs(inputs.bias)) + np.abs(bias))
    drift = Interval.ball(q, above(radius, d + 8)) if np.any(radius) else Interval.exact(q)
    centers = [_center(drift, taps[:, present], conv_bias) for present in tap_sets(taps.shape[1], padding, moves=bool(np.any(radius)))]
    lo, hi = (np.stack([getattr(c, end) for c in centers]) for end in ("lo", "hi"))
    return Window(W=W, slack=above(slack, 4), taps=taps, centers=Interval(lo, hi), radius=inputs.radius)


def _center(drift: Interval, taps: np.ndarray, conv_bias: np.ndarray) -> Interval:
    total = Interval.exact(np.zeros(len(taps)))
    for k in taps.T:
        total = total + Interval.exact(k)
    if not np.any(drift.lo) and not np.any(drift.hi):
        return Interval.exact(conv_bias)
    return drift * total + Interval.exact(conv_bias)


def tap_sets(K: int, padding: str, *, moves: bool) -> Sequence[np.ndarray]:
    """Return which taps lie inside the document: the last m of a causal convolution, all contiguous runs that hold the present of a
    centered one.

    Where no bias stands in front of the convolution (``moves`` is False) a missing tap is an input 0, and all of them suffice.
    """
    if not moves:
        return [np.arange(K)]
    now = K - 1 if padding == "causal" else (K - 1) // 2
    return [np.arange(first, last + 1) for first in range(now + 1) for last in range(now, K)]
