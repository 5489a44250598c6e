r"""T5: the state bound by slices along the row of its own channel.

On the stacked window X = (x_{t-j})_j of k balls, ||X|| <= R = sqrt(k) r, let s_e = c0_e + z |g| R with z = <X, g> / (|g| R). On a
slice z in [z1, z2] every linear form <G, X> is at most max(z1, z2)-wise R <G, g>/|g| plus R sqrt(||G||^2 - <G, g>^2/|g|^2) sqrt(1 - z^2),
and ||s|| <= ||c0 + z R K g/|g| || + sigma R sqrt(1 - z^2). Step, input weight and u are bounded together on each slice, so the
largest product over slices replaces the product of the largest.
"""

import math

import numpy as np

from ssm_analysis.certificates.rounding import Interval, above, ball_softplus, counted, ends, silu_size, upward
from ssm_analysis.certificates.window import Rows, Window, above_any

SLICES = 64
TABLE = np.linspace(-48.0, 64.0, 112 * 32 + 1)


def state_bounds(window: Window, step: Rows, B: Rows, a: Interval, *, offset: float, joint: bool) -> np.ndarray:
    """Return sup |tau| for every channel and state, (channels, d_state): step row e belongs to channel e, B row n to state n.

    ``joint``: by slices; otherwise factor by factor.
    """
    whole_step, whole_B = step.bounds(window).hi, B.bounds(window).size()
    apart = targets(a, above_any(softplus_above(whole_step), offset), whole_B[None, :], window.u.size())
    if not joint:
        return apart
    best, geometry = np.zeros(a.lo.shape), _Geometry(window, step, B)
    for t in range(len(window.centers.lo)):
        for k in range(SLICES):
            pre, size_B, u = geometry.slice(t, k)
            delta = above_any(softplus_above(np.minimum(pre, whole_step)), offset)
            best = np.maximum(best, targets(a, delta, np.minimum(size_B.T, whole_B[None, :]), u))
    return np.minimum(best, apart)


def targets(a: Interval, delta: np.ndarray, B: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return phi(delta) |B| |u|, (channels, d_state)."""
    return above(phi_above(a, delta[:, None]) * above(B * u[:, None], 2), 8)


def phi_above(a: Interval, delta: np.ndarray) -> np.ndarray:
    """Return delta / (1 - exp(-a delta)) <= (y + min(1 + y^2/3, sqrt(1 + y^2))) / a with y = a delta / 2, as y coth y is at most both."""
    y = above(a.hi * np.maximum(delta, 0.0) / 2, 2)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        found = above((y + np.minimum(1 + y * y / 3, np.sqrt(1 + y * y))) / a.lo, 12)
    return np.where(np.isnan(found), np.inf, found)


def softplus_above(x: np.ndarray) -> np.ndarray:
    """Return an upper bound of log(1 + e^x): chords of the convex function between 3,585 points evaluated in balls."""
    values = _table()
    inside = np.clip(x, TABLE[0], TABLE[-1])
    chord = np.interp(inside, TABLE, values)
    return above(np.where(x > TABLE[-1], x + values[-1] - TABLE[-1], chord), 16)


def _table() -> np.ndarray:
    if not _CACHE:
        _CACHE.append(ends(ball_softplus, TABLE)[1])
    return _CACHE[0]


_CACHE: list[np.ndarray] = []


class _Geometry:
    """Inner products of all rows with the rows of the channels."""

    def __init__(self, window: Window, step: Rows, B: Rows) -> None:
        self.window, self.step, self.B = window, step, B
        g = np.where(window.weights > 0, window.weights, 1.0)
        K = window.taps.shape[1]
        self.R = float(above(np.asarray(math.sqrt(K) * window.radius), 4))
        self.along_step = self._along(step, np.sum(step.R * window.gram, axis=1) / g)  # (channels,)
        self.along_B = self._along(B, B.R @ window.gram / g, matrix=True)  # (d_state, channels)
        self.v = self.R * window.gram / g  # columns: K g_e / |g_e| R
        self.v_size = np.sum(self.v**2, axis=0)
        self.t = window.weights * self.R
        widest = np.sum(np.abs(window.taps), axis=1) / np.maximum(np.sqrt(np.sum(window.taps**2, axis=1)) * math.sqrt(K), 1e-300)
        self.widest = np.minimum(widest * (1 + 2.0**-30), 1.0)

    def _along(self, rows: Rows, projection: np.ndarray, *, matrix: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return <G, g>/|g| for each row G, its error, and what is left of ||G|| across."""
        w = self.window
        error = (w.relative + 2 * counted(rows.R.shape[1] + 16)) * 2 * (np.abs(rows.R) @ w.weights)
        if matrix:
            error = error[:, None]
        stacked = rows.stacked[:, None] if matrix else rows.stacked
        least = np.maximum(np.abs(projection) - error, 0.0)
        across = np.sqrt(np.maximum(stacked**2 * (1 + 2.0**-48) - least**2 * (1 - 2.0**-48), 0.0))
        return projection, above(error, 8), above(across, 8)

    def slice(self, t: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return upper bounds on slice k of tap set t: the step before softplus, |B_n| (d_state, channels), and |u|."""
        w = self.window
        z1, z2 = (self.widest * (2 * j / SLICES - 1) for j in (k, k + 1))
        z1, z2 = z1 - 2.0**-30, z2 + 2.0**-30
        least = np.where(z1 * z2 <= 0, 0.0, np.minimum(np.abs(z1), np.abs(z2)))
        rest = np.sqrt(np.maximum(1 - least**2, 0.0) + 2.0**-50)
        top = w.centers.hi[t] + z2 * self.t + np.abs(z2) * self.t * 2.0**-30
        size = self._size(t, z1, z2, rest)
        pre = self._upper(self.step, self.along_step, t, z1, z2, rest, size)
        high = self._upper(self.B, self.along_B, t, z1, z2, rest, size)
        low = self._upper(self.B, self.along_B, t, z1, z2, rest, size, negative=True)
        return pre, np.maximum(high, low), silu_size(upward(top))

    def _size(self, t: int, z1: np.ndarray, z2: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Return S on the slice, channel by channel: convex in z, so largest at an end."""
        w = self.window
        middle = (w.centers.lo[t] + w.centers.hi[t]) / 2
        spread = float(above(float(np.linalg.norm(w.centers.hi[t] - w.centers.lo[t])), len(middle)))
        center, cross = float(np.sum(middle**2)), middle @ self.v
        ends_ = []
        across = (
            4 * self.R * w.relative * float(above(float(np.linalg.norm(w.weights)), len(middle)))
        )  # what errors of the Gram matrix add to v
        for z in (z1, z2):
            square = center + 2 * z * cross + z * z * self.v_size
            wrong = counted(2 * len(middle) + 64) * (math.sqrt(center) + np.abs(z) * np.sqrt(self.v_size)) ** 2 * 2
            ends_.append(np.sqrt(np.maximum(square, 0.0) + wrong) + np.abs(z) * across)
        found = np.maximum(*ends_) + spread + w.stretch * self.R * rest
        return np.minimum(above(found, 16), w.sizes[t])

    def _upper(
        self, rows: Rows, along: tuple[np.ndarray, np.ndarray, np.ndarray], t: int, z1: np.ndarray, z2: np.ndarray,
        rest: np.ndarray, size: np.ndarray, *, negative: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Return sup of R u + b (or of its negative) on the slice."""
        projection, error, across = along
        sign = -1.0 if negative else 1.0
        matrix = projection.ndim == 2
        linear = np.maximum(sign * z1 * projection, sign * z2 * projection) + error + across * rest
        column = (lambda x: x[:, None]) if matrix else (lambda x: x)
        half = np.minimum(self.R * linear, column(rows.linear)) / 2
        remainder = rows.down if negative else rows.up
        bounded = remainder.bound(size[:, None]).T if matrix else remainder.bound(size)  # a step row at the size of its own channel
        center = -rows.center.lo[t] if negative else rows.center.hi[t]
        return above_any(column(center), half, bounded, column(rows.slack))
