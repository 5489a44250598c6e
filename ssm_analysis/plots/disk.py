"""Eigenvalues in the unit disk, and stretched where everything happens: near the circle.

The disk shows where eigenvalues lie; with long memory nearly all of them crowd into its rim. Below it the distance to
the circle, 1 - |lambda|, has a logarithmic axis: against the angle, or, where all eigenvalues are real and
the angle says nothing, against their rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Complex, Float

from ssm_analysis.xp import Array, is_array, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd")
"""Blue and orange first, as in the figure of arXiv 2403.16899."""
ALARM = "#d62728"
"""Of eigenvalues on or outside the circle."""
MANY = 4_000
"""With more points than this the density is drawn: single points would hide each other."""
BINS = 200
"""Cells of the density along each axis: small, yet one alone can be seen."""
NEAREST = 1e-6
"""The stretch shows distances to the circle down to here, and further where there are any."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Points:
    """Eigenvalues by angle and distance to the circle, as a picture needs them."""

    angle: Float[np.ndarray, " n"]
    margin: Float[np.ndarray, " n"]

    @property
    def z(self) -> Complex[np.ndarray, " n"]:
        """The eigenvalues themselves."""
        return (1 - self.margin) * np.exp(1j * self.angle)


def points_of_log_poles(log_poles: Array) -> Points:
    """Return without cancellation: 1 - |lambda| = -expm1(Re log_poles). Angles in (-pi, pi]."""
    mu = np.asarray(to_numpy(log_poles)).reshape(-1)
    return Points(angle=np.pi - np.mod(np.pi - np.imag(mu), 2 * np.pi), margin=-np.expm1(np.real(mu)))


def unit_disk(
    poles: Array | Sequence[Array], *, ax: "Axes | None" = None, labels: Sequence[str] | None = None, title: str | None = None
) -> "Axes":
    """Draw eigenvalues in the unit disk, with a stretched view of its rim below.

    Parameters
    ----------
    poles
        Eigenvalues of discrete systems, an array of any shape (numpy or torch), real or complex; or a list of such
        arrays, one for each color. Those within rounding of the circle count as lying on it.
    ax
        Where to draw; by default a figure of its own. The stretched view hangs below these axes.
    labels
        One for each color; shown in a legend.
    title
        Of the axes.

    Raises
    ------
    TypeError
        If ``poles`` is neither an array nor a list of arrays.
    ValueError
        If an eigenvalue is NaN or infinite, there is none at all, or the labels do not match the arrays.
    """
    if not is_array(poles) and not isinstance(poles, list | tuple):
        raise TypeError(f"poles must be an array or a list of arrays, got {type(poles).__name__}")
    series = [poles] if is_array(poles) else list(poles)
    return draw_disk([_points(x) for x in series], ax=ax, labels=labels, title=title)


def draw_disk(
    series: Sequence[Points], *, ax: "Axes | None" = None, labels: Sequence[str] | None = None, title: str | None = None
) -> "Axes":
    """Draw as `unit_disk` does, for eigenvalues that are known by their distance to the circle."""
    ax = disk(series, ax=ax, labels=labels, title=title)
    stretch(series, ax=ax.inset_axes((0.0, -0.74, 1.0, 0.50)))
    return ax


def disk(series: Sequence[Points], *, ax: "Axes | None" = None, labels: Sequence[str] | None = None, title: str | None = None) -> "Axes":
    """Draw the disk alone, without the stretched view of its rim."""
    if not series:
        raise ValueError("poles must hold at least one eigenvalue, got an empty list")
    if labels is not None and len(labels) != len(series):
        raise ValueError(f"labels must have one entry for each of the {len(series)} arrays of poles, got {len(labels)}")
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(4.2, 6.0), layout="constrained")
    turn = np.exp(1j * np.linspace(0, 2 * np.pi, 513))
    ax.plot(np.real(turn), np.imag(turn), color="0.2", linewidth=1.0, zorder=1)
    ax.axhline(0, color="0.85", linewidth=0.6, zorder=0)
    ax.axvline(0, color="0.85", linewidth=0.6, zorder=0)
    on_real_axis = all_real(series)
    reach = max([1.0, *(float(np.max(np.abs(1 - p.margin))) for p in series if len(p.margin))]) * 1.08
    for i, (points, color) in enumerate(zip(series, _colors(len(series)), strict=True)):
        z = points.z
        if on_real_axis:  # points of two colors would cover each other: a rug, one color above the axis, the next below
            tick = (1 if i % 2 == 0 else -1) * (0.09 + 0.05 * (i // 2))
            _rug(ax, np.real(z), -tick if len(series) == 1 else 0, tick, color, reach)
        else:
            scatter(ax, np.real(z), np.imag(z), color, (-reach, reach), (-reach, reach))
        lost = z[points.margin <= 0]
        if len(lost) > MANY:
            scatter(ax, np.real(lost), np.imag(lost), ALARM, (-reach, reach), (-reach, reach))
        elif len(lost):
            ax.plot(np.real(lost), np.imag(lost), "x", color=ALARM, markersize=4, zorder=3)
    ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach), xlabel="Re λ", ylabel="Im λ")
    if reach < 3:
        ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    if title:
        ax.set_title(title)
    if labels is not None:
        _legend(ax, labels)
    return ax


def stretch(series: Sequence[Points], *, ax: "Axes | None" = None) -> "Axes":
    """Draw 1 - |lambda| on a logarithmic axis that ends at the circle, against the angle or, for real eigenvalues, the rank.

    The axis on the right reads the same as a time constant -1/log|lambda|, in tokens. Eigenvalues on or outside the
    circle have no logarithmic distance; they are marked and counted at the upper edge.
    """
    if ax is None:
        from matplotlib import pyplot as plt

        _, ax = plt.subplots(figsize=(4.2, 3.0), layout="constrained")
    inside = [p.margin[p.margin > 0] for p in series]
    nearest = min([NEAREST, *(float(np.min(m)) / 2 for m in inside if len(m))])
    by_rank = all_real(series)
    limits = (0.0, 1.0) if by_rank else (-1.05, 1.05)
    ax.set(yscale="log", xlim=limits, ylim=(1.0, nearest))
    for i, (points, color) in enumerate(zip(series, _colors(len(series)), strict=True)):
        order = np.argsort(-points.margin)
        x = (np.arange(len(order)) + 0.5) / len(order) if by_rank else points.angle[order] / np.pi
        margin = points.margin[order]
        ok = margin > 0
        if by_rank:  # every mode is one step of the staircase
            edges, style = np.arange(len(order) + 1) / len(order), "-" if i == 0 else (0, (4, 2))
            ax.stairs(np.where(ok, margin, np.nan), edges, baseline=None, color=color, linewidth=2.4 - 0.8 * min(i, 1), linestyle=style)
        else:
            scatter(ax, x[ok], np.log10(margin[ok]), color, limits, (np.log10(nearest), 0.0), log_y=True)
        if not np.all(ok):  # an empty line that is not clipped would confuse the layout
            ax.plot(x[~ok], np.full(len(order) - np.count_nonzero(ok), nearest), "x", color=ALARM, markersize=4, clip_on=False, zorder=5)
    lost = sum(int(np.sum(p.margin <= 0)) for p in series)
    if lost:
        ax.text(0.01, 0.94, f"× {lost} with |λ| ≥ 1", color=ALARM, fontsize="x-small", va="top", transform=ax.transAxes)
    _rim_axes(ax, nearest, "share of modes, by rank" if by_rank else "angle / π")
    return ax


def all_real(series: Sequence[Points]) -> bool:
    """Return whether all eigenvalues are real, so that the angle says nothing."""
    return all(np.all((p.angle == 0) | (np.abs(p.angle) == np.pi)) for p in series)


def scatter(
    ax: "Axes",
    x: np.ndarray,
    y: np.ndarray,
    color: str,
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    log_y: bool = False,
) -> None:
    """Draw dots, or the density of many; with ``log_y`` both ``y`` and ``ylim`` are decimal logarithms."""
    if len(x) <= MANY:
        size = float(np.clip(40 / np.sqrt(max(len(x), 1)), 1.8, 4.0))
        ax.plot(x, 10**y if log_y else y, "o", color=color, markersize=size, markeredgewidth=0, alpha=0.6, zorder=2)
        return
    from matplotlib.colors import to_rgb

    counts, xe, ye = np.histogram2d(x, y, bins=BINS, range=(xlim, ylim))
    depth = np.log1p(counts) / np.log1p(np.max(counts))
    rgba = np.empty((*counts.T.shape, 4))
    rgba[..., :3] = to_rgb(color)
    rgba[..., 3] = np.where(counts.T > 0, 0.4 + 0.6 * depth.T, 0.0)  # a single eigenvalue stays visible
    ax.pcolormesh(xe, 10**ye if log_y else ye, rgba, rasterized=True, zorder=2)


def _rim_axes(ax: "Axes", nearest: float, xlabel: str) -> None:
    ax.set(xlabel=xlabel, ylabel="1 − |λ|")
    ax.grid(True, which="major", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    span = -np.log10(nearest)
    decades = np.arange(0, span + 0.5, 2 * np.ceil(span / 8))  # 2 for the usual 6 decades, at most five labels for any
    ax.set_yticks(10.0**-decades)
    ax.minorticks_off()
    right = ax.secondary_yaxis("right")
    right.set_yticks(10.0 ** -decades[1:], [_tokens(10.0**d) for d in decades[1:]])
    right.minorticks_off()
    right.set_ylabel("time constant, tokens")


def _points(x: Array) -> Points:
    if not is_array(x):
        raise TypeError(f"poles must be an array or a list of arrays, got {type(x).__name__}")
    z = np.asarray(to_numpy(x)).reshape(-1)
    if z.size == 0:
        raise ValueError("poles must hold at least one eigenvalue, got an empty array")
    if not np.all(np.isfinite(z)):
        raise ValueError("poles must be finite, got NaN or infinite eigenvalues")
    margin = 1 - np.abs(z).astype(np.float64)
    rounding = np.finfo(z.dtype).eps if np.issubdtype(z.dtype, np.inexact) else 0.0
    return Points(angle=np.angle(z), margin=np.where(np.abs(margin) <= rounding, 0.0, margin))


def _rug(ax: "Axes", x: np.ndarray, low: float, high: float, color: str, reach: float) -> None:
    """Draw one stroke for each real eigenvalue; of many a histogram, whose highest column is three times as high."""
    if len(x) <= MANY:
        ax.vlines(x, low, high, color=color, linewidth=0.8, alpha=_fade(len(x)), rasterized=True, zorder=2)
        return
    counts, edges = np.histogram(x, bins=BINS, range=(-reach, reach))
    share = np.where(counts > 0, 0.1 + 2.9 * counts / np.max(counts), 0.0)  # a single eigenvalue stays visible
    ax.stairs(high * share, edges, baseline=low * share, fill=True, color=color, alpha=0.8, zorder=2)


def _fade(n: int) -> float:
    """Return opacity of one of n strokes, so that many still show where they are dense."""
    return float(np.clip(30 / max(n, 1), 0.04, 0.6))


def _legend(ax: "Axes", labels: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], marker="o", linestyle="", color=c, markersize=4) for c in _colors(len(labels))]
    ax.legend(
        handles, list(labels), loc="upper left", fontsize="x-small", borderpad=0.2, borderaxespad=0.2, handletextpad=0, handlelength=1.4
    )


def _colors(n: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(n)]


def _tokens(n: float) -> str:
    return f"{n:,.0f}" if n < 1e6 else f"1e{round(np.log10(n))}"
