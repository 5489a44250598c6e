"""Time constants -1/log|lambda|, tokens, on a logarithmic axis: against the angle, by rank, and layer by layer.

They come from rates -log|lambda|, never from a rounded |lambda|, which near the circle would cancel. Eigenvalues on or
outside the circle have no time constant; they are crosses at the upper edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Inexact, Int

from ssm_analysis.plots.disk import ALARM, COLORS, MANY, Points, scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FASTEST = 0.1
"""Tokens. After one token such a mode has decayed by e^-10: shorter ones are drawn at the edge, for they are all the same."""
FARTHEST = 3.0
"""Eigenvalues with a larger modulus are drawn with this one; otherwise the disk would be a dot."""
PERCENTILES = (0.0, 5.0, 50.0, 95.0, 100.0)
"""Of the rates of a layer: longest time constant, band, median, band, shortest."""
SLOWEST = 10
"""So many of the eigenvalues nearest to the circle are circled."""
INK = "0.15"


@dataclass(frozen=True, eq=False, kw_only=True)
class Modes:
    """Eigenvalues by angle and rate -log|lambda|, nats per token."""

    angle: Float[np.ndarray, " n"]
    rate: Float[np.ndarray, " n"]

    @property
    def points(self) -> Points:
        """Return where they are drawn in the disk."""
        return Points(angle=self.angle, margin=-np.expm1(-np.maximum(self.rate, -np.log(FARTHEST))))

    @property
    def slowest(self) -> Int[np.ndarray, " k"]:
        """Return which are nearest to the circle, of those inside it."""
        inside = np.flatnonzero(self.rate > 0)
        if len(inside) <= SLOWEST:
            return inside[np.argsort(self.rate[inside], kind="stable")]
        found = inside[np.argpartition(self.rate[inside], SLOWEST)[:SLOWEST]]
        return found[np.argsort(self.rate[found], kind="stable")]


def modes_of_log_poles(log_poles: Inexact[np.ndarray, "*batch n"]) -> Modes:
    """Return angles in (-pi, pi]."""
    mu = log_poles.reshape(-1)
    angle = np.zeros(mu.shape) if not np.iscomplexobj(mu) else np.pi - np.mod(np.pi - np.imag(mu), 2 * np.pi)
    return Modes(angle=angle, rate=-np.real(mu).astype(np.float64))


def rate_percentiles(rates: Float[np.ndarray, " n"]) -> Float[np.ndarray, "5"]:
    """Return the rates at ``PERCENTILES``; a pole 0, whose rate is infinite, counts as a very fast one."""
    return np.percentile(np.minimum(rates, 1e300), PERCENTILES)


def tau_limits(rates: Sequence[Float[np.ndarray, " _"]]) -> tuple[float, float]:
    """Return whole decades of tokens that hold all time constants, at least from 1 to 100."""
    inside = [r[r > 0] for r in rates]
    longest = max([1.0, *(1 / float(np.min(r)) for r in inside if len(r))])
    shortest = min([1.0, *(1 / float(np.max(r)) for r in inside if len(r))])
    low = max(FASTEST, 10.0 ** np.floor(np.log10(max(shortest, FASTEST)) + 1e-9))
    return float(low), float(10.0 ** max(2.0, np.ceil(np.log10(longest) + 0.05)))


def against_angle(modes: Modes, *, ax: "Axes", limits: tuple[float, float]) -> None:
    """Draw time constants over angles: dots, or the density of many; the slowest circled."""
    sides = (0.0, 1.0) if np.all(modes.angle >= 0) else (-1.0, 1.0)
    pad = 0.03 * (sides[1] - sides[0])
    xlim = (sides[0] - pad, sides[1] + pad)
    inside = modes.rate > 0
    x, tau = modes.angle / np.pi, tokens(modes.rate)
    with np.errstate(invalid="ignore"):
        y = np.log10(np.clip(tau, *limits))
    scatter(ax, x[inside], y[inside], COLORS[0], xlim, (np.log10(limits[0]), np.log10(limits[1])), log_y=True)
    near = modes.slowest
    ax.plot(x[near], np.clip(tau[near], *limits), "o", color=INK, markerfacecolor="none", markeredgecolor=INK, markersize=7, zorder=4)
    crosses(ax, x[~inside], limits[1])
    tau_axis(ax, limits)
    ax.set(xlim=xlim, xlabel="angle of λ / π   (0: no oscillation, ±1: fastest)")
    ax.set_title("How long, and how fast it oscillates", fontsize="medium")


def by_rank(modes: Modes, *, ax: "Axes", limits: tuple[float, float]) -> None:
    """Draw time constants in descending order; of many the percentiles at a thousand ranks."""
    tau = np.sort(tokens(modes.rate))[::-1]
    chosen = np.arange(len(tau)) if len(tau) <= MANY else np.linspace(0, len(tau) - 1, 1001).round().astype(int)
    share = 100 * (chosen + 0.5) / len(tau)
    known = np.isfinite(tau[chosen])
    ax.plot(share[known], np.clip(tau[chosen][known], *limits), color=COLORS[0], linewidth=2, marker="o" if len(tau) <= 64 else "")
    near = np.flatnonzero(np.isfinite(tau))[:SLOWEST]
    ring = {"color": INK, "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7, "zorder": 4}
    ax.plot(100 * (near + 0.5) / len(tau), np.clip(tau[near], *limits), "o", **ring)
    crosses(ax, share[~known], limits[1])
    tau_axis(ax, limits)
    ax.set(xlim=(-2, 102), xlabel="rank, % of the eigenvalues")
    ax.set_title("How long, from the slowest to the fastest", fontsize="medium")


def by_layer(found: Sequence[Float[np.ndarray, "5"]], *, known: Sequence[bool], ax: "Axes", limits: tuple[float, float]) -> None:
    """Draw one stroke for each layer: median, band from 5 to 95 %, and extremes.

    Parameters
    ----------
    found
        `rate_percentiles` of each layer.
    known
        Whether all eigenvalues of the layer are known, or the slowest alone.
    ax
        Where to draw.
    limits
        Of the time constants.
    """
    tau = np.clip(tokens(np.stack(list(found))), *limits)
    layers, sure = np.arange(len(found)), np.asarray(known)
    width = float(np.clip(150 / len(found), 1.0, 9.0))
    x, t = layers[sure], tau[sure]
    ax.vlines(x, t[:, 4], t[:, 0], color=COLORS[0], linewidth=max(width / 6, 0.5), label="shortest to longest")
    ax.vlines(x, t[:, 3], t[:, 1], color=COLORS[0], linewidth=width, alpha=0.45, label="5 % to 95 %")
    size = float(np.clip(width * 0.9, 2.0, 6.0))
    ax.plot(x, t[:, 2], "o", color=INK, markersize=size, label="median")
    if not np.all(sure):
        ax.plot(layers[~sure], tau[~sure, 0], "v", color=INK, markerfacecolor="none", label="longest (no other is known)")
    lost = np.asarray([f[0] <= 0 for f in found])
    crosses(ax, layers[lost].astype(float), limits[1])
    tau_axis(ax, limits)
    ax.set(xlim=(-0.7, len(found) - 0.3), xlabel="layer, in the order of depth")
    ax.set_title("How long, layer by layer", fontsize="medium")
    whole_numbers(ax)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, fontsize="small", frameon=False, handlelength=1.2)


def tokens(rate: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Return 1 / rate, infinite where nothing decays."""
    decays = rate > 0
    return np.where(decays, 1 / np.where(decays, rate, 1.0), np.inf)


def crosses(ax: "Axes", x: Float[np.ndarray, " n"], edge: float) -> None:
    """Draw what never decays, at the upper edge."""
    if len(x):
        some = np.unique(np.round(x, 3)) if len(x) > MANY else x  # more could not be told apart
        ax.plot(some, np.full(len(some), edge), "x", color=ALARM, markersize=6, markeredgewidth=1.6, clip_on=False, zorder=5)


def tau_axis(ax: "Axes", limits: tuple[float, float]) -> None:
    """Set an axis of decades of tokens."""
    low, high = (round(np.log10(x)) for x in limits)
    decades = np.arange(low, high + 1, max(1, -(-(high - low) // 8)))
    ax.set(yscale="log", ylim=limits, ylabel="time constant, tokens")
    ax.set_yticks(10.0**decades, [in_words(int(d)) for d in decades])
    ax.minorticks_off()
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)


def moduli_at_the_right(ax: "Axes", limits: tuple[float, float]) -> None:
    """Write |lambda| at the decades of the time constant, so that the axis can be found in the disk again."""
    low, high = (round(np.log10(x)) for x in limits)
    decades = [d for d in range(max(low, 0), high + 1) if high - low <= 8 or d % 2 == 0]
    right = ax.secondary_yaxis("right")
    words = ["0.37" if d == 0 else f"{1 - 10.0**-d:.{d}f}" if d <= 4 else f"1−1e−{d}" for d in decades]
    right.set_yticks([10.0**d for d in decades], words)
    right.minorticks_off()
    right.set_ylabel("|λ|, about")


def whole_numbers(ax: "Axes") -> None:
    """Allow no halves on the axis of x."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def in_words(decade: int) -> str:
    """Return 10^decade tokens."""
    return f"{10.0**decade:,.0f}" if 0 <= decade < 6 else f"{10.0**decade:g}" if decade < 0 else f"$10^{{{decade}}}$"
