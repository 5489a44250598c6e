"""Curves of one layer, its channels as a band with three of them picked out, and of many layers, one line each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.responses.frequency import frequency_response
from ssm_analysis.plots.channels import (
    Channels,
    fine_frequencies,
    frequencies,
    kernel_length,
    kernels,
    representatives,
    responses,
    smoothed,
)
from ssm_analysis.plots.curves import FEW, band
from ssm_analysis.plots.time_constants import whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICKED = {"slowest channel": ("#0072B2", "-"), "median channel": ("#E69F00", "--"), "fastest channel": ("#009E73", "-.")}
"""Colors of Okabe and Ito, which the color-blind can tell apart, and lines that can be told apart without any."""
GRAY = "0.35"
FREQUENCY = "frequency, rad/token   (π: every token the other sign)"
LEGEND = 10
"""Up to so many layers have their names in a legend; more are colored by depth."""
DEEPEST_COLOR = 0.8
"""Of the color map viridis, whose last fifth is too light for lines on white."""
RANGE_DB = 120.0
"""Gains further below the largest are cut off."""
TINY = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """What stands for one layer among many."""

    layer: str
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    what: str
    """What of it."""


def gain_line(found: Channels) -> Line:
    """Return the median over the channels of the gain, dB."""
    omega = frequencies(found)
    gain = np.median(decibels(responses(found, omega)), axis=0)
    return Line(layer=found.layer, x=omega, y=gain, what="largest singular value" if found.wide else "median over the channels")


def kernel_line(found: Channels) -> Line:
    """Return the median over the channels of the size of the kernel, or its norm."""
    lags, size = _sizes(found, *kernels(found, kernel_length(found)))
    return Line(layer=found.layer, x=lags, y=np.median(size, axis=0), what="norm" if found.wide else "median over the channels")


def hankel_line(found: Channels) -> Line:
    """Return the median over the channels of the Hankel singular values, relative to the first."""
    y = np.median(relative(hsv(found.system)), axis=0)
    return Line(layer=found.layer, x=np.arange(1, len(y) + 1.0), y=y, what="median over the channels: how many states each needs")


def relative(sigma: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "_ n"]:
    """Return Hankel singular values relative to the first, of the channels that pass something on."""
    sigma = sigma[sigma[:, 0] > 0]
    if not len(sigma):
        raise ValueError("all Hankel singular values are 0: no channel passes anything on, so there is nothing to draw")
    return sigma / sigma[:, :1]


def bode_of_layer(figure: "Figure", found: Channels) -> None:
    """Draw the gain of all channels, and the phase of three of them; of wide systems the largest singular value."""
    omega = frequencies(found)
    G = responses(found, omega)
    rows = 1 if found.wide else 2
    upper, *below = figure.subplots(rows, 1, sharex=True, squeeze=False, height_ratios=(1.6, 1)[:rows])[:, 0]
    gain = decibels(G)
    _all_of(upper, omega, gain)
    for (name, i), lower in zip(_picked(found).items(), below * 3, strict=False):
        fine = fine_frequencies(found, i, float(omega[0]))
        one = frequency_response(found.system[i], fine)[:, 0, 0]
        color, style = PICKED.get(name, (GRAY, "-"))
        upper.plot(fine, decibels(one), color=color, linestyle=style, linewidth=1.0, label=_timed(name, found, i))
        lower.plot(fine, np.unwrap(np.angle(one)) / math.pi, color=color, linestyle=style, linewidth=1.2)
    gain_axis(upper, gain)
    upper.set(xlim=(omega[0], math.pi), ylabel="largest singular value, dB" if found.wide else "gain, dB")
    for lower in below:
        lower.set_ylabel("phase / π")
        lower.grid(True, color="0.9", linewidth=0.6)
    (below or [upper])[-1].set_xlabel(FREQUENCY)
    _legend_beside(upper)


def impulse_of_layer(figure: "Figure", found: Channels) -> None:
    """Draw the size of the kernels of all channels over the lag, and below it three of them; of wide systems the norm."""
    lags, K = kernels(found, kernel_length(found))
    picked = _picked(found)
    upper, *below = figure.subplots(1 + len(picked), 1, sharex=True, squeeze=False, height_ratios=(2.2, *(1,) * len(picked)))[:, 0]
    middle, size = _sizes(found, lags, K)
    _all_of(upper, middle, size)
    size_axis(upper, size)
    upper.set_ylabel("norm of the kernel" if found.wide else "size of the kernel")
    for ax, (name, i) in zip(below, picked.items(), strict=True):
        color, _ = PICKED.get(name, (GRAY, "-"))
        ax.plot(lags[1:], K[i, 1:], color=color, linewidth=1.0)
        ax.axhline(0, color="0.6", linewidth=0.6)
        words = f"{_timed(name, found, i)}\nat lag 0: D = {K[i, 0]:.3g}"
        ax.text(1.01, 0.95, words, color=color, fontsize="small", va="top", transform=ax.transAxes)
        ax.grid(True, color="0.9", linewidth=0.6)
    if below:
        below[len(below) // 2].set_ylabel("kernel")
    upper.grid(True, color="0.9", linewidth=0.6)
    lag_axis((below or [upper])[-1], lags)
    _legend_beside(upper)


def lines_of_layers(axes: Sequence["Axes"], panels: Sequence[Sequence[Line]], *, depth: Mapping[str, int]) -> None:
    """Draw one line for each layer, from dark (first) to light (last); at the last axes names in a legend, or of many a color bar."""
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize
    from matplotlib.ticker import MaxNLocator

    last = max(1, *depth.values())
    shades = ListedColormap(colormaps["viridis"](np.linspace(0, DEEPEST_COLOR, 256)))
    styles = ("-", "--", "-.", ":")
    few = len(depth) <= LEGEND
    handles: dict[str, Any] = {}
    for ax, lines in zip(axes, panels, strict=True):
        for line in lines:
            i = depth[line.layer]
            look: dict[str, Any] = {"linestyle": styles[i % 4], "linewidth": 1.4} if few else {"linewidth": 0.9}
            (handles[shortened(line.layer, 36) or "the layer"],) = ax.plot(line.x, line.y, color=shades(i / last), **look)
    if few:
        _legend_beside(axes[-1], handles, title="layer")
    else:
        bar = ScalarMappable(Normalize(0, last), shades)
        axes[-1].figure.colorbar(bar, ax=axes[-1], label="layer, in the order of depth", ticks=MaxNLocator(integer=True))


def gain_axis(ax: "Axes", gain: Float[np.ndarray, "..."]) -> None:
    """Set axes of decibels over the logarithm of the frequency."""
    top = float(np.max(gain))
    ax.set_ylim(max(float(np.min(gain)), top - RANGE_DB) - 1, top + 1)
    ax.set_xscale("log")
    ax.grid(True, color="0.9", linewidth=0.6)


def lag_axis(ax: "Axes", lags: Float[np.ndarray, " l"]) -> None:
    """Set an axis of tokens, logarithmic from 1 on, with room for 0."""
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)
    ax.set(xlim=(-0.1, float(lags[-1])), xlabel="lag, tokens   (0: the present one)")
    decades = range(max(1, math.floor(math.log10(max(lags[-1], 1))) + 1))
    ax.set_xticks([0, *(10.0**d for d in decades)], ["0", *(f"{10**d:,}" for d in decades)])
    ax.grid(True, color="0.9", linewidth=0.6)


def size_axis(ax: "Axes", sizes: Float[np.ndarray, "..."]) -> None:
    """Set an axis of sizes of kernels, logarithmic: eight decades at most."""
    top = float(np.max(sizes))
    some = sizes[sizes > top * 1e-8]
    if top > 0:
        ax.set(yscale="log", ylim=(float(np.min(some)) / 1.5, top * 1.5))


def hankel_axis(ax: "Axes", least: float) -> None:
    """Set an axis of numbers of singular values, and a line at 1 % of the first."""
    ax.set(yscale="log", ylim=(min(max(least, 1e-20), 5e-3) / 2, 2), ylabel="Hankel singular value, relative to the first")
    ax.axhline(1e-2, color="0.5", linewidth=0.8, linestyle=(0, (1, 3)))
    ax.text(0.01, 8e-3, "1 %: states below matter little", fontsize="small", color="0.4", va="top", transform=ax.get_yaxis_transform())
    ax.set_xlabel("number of the singular value, the largest first")
    whole_numbers(ax)
    ax.grid(True, color="0.9", linewidth=0.6)


def share_axis(ax: "Axes") -> None:
    """Set axes of percent over the logarithm of the lag."""
    ax.set(xscale="log", xlabel="lag, tokens", ylabel="share beyond the lag, %", ylim=(-2, 102))
    ax.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x < 1e6 else f"{x:.0e}")
    ax.grid(True, color="0.9", linewidth=0.6)


def decibels(G: np.ndarray) -> Float[np.ndarray, "..."]:
    """Return 20 log10 |G|."""
    return 20 * np.log10(np.maximum(np.abs(G), TINY))


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many characters, with its ends: they tell most. What fonts may lack becomes a question mark."""
    known = "".join(c if c.isprintable() and ord(c) < 0x530 else "?" for c in name).replace("$", r"\$")
    return known if len(known) <= most else f"{known[: most // 2 - 1]}…{known[-(most - most // 2) :]}"


def _all_of(ax: "Axes", x: np.ndarray, y: Float[np.ndarray, "k points"]) -> None:
    if len(y) > FEW:
        band(ax, x, y, label=f"median of {len(y):,} channels\n(band 5 to 95 %, dotted: extremes)", color=GRAY)
        return
    ax.plot(x, y.T, color=GRAY, linewidth=0.9, alpha=0.7)
    if len(y) > 1:
        ax.lines[-1].set_label(f"all {len(y)} channels")


def _picked(found: Channels) -> dict[str, int]:
    return {} if found.wide else representatives(len(found.slowest))


def _timed(name: str, found: Channels, i: int) -> str:
    tau = 1 / found.slowest[i] if found.slowest[i] > 0 else math.inf
    return f"{name}\n(up to {tau:,.0f} tokens)" if tau >= 10 else f"{name}\n(up to {tau:.2g} tokens)"


def _sizes(found: Channels, lags: Float[np.ndarray, " l"], K: np.ndarray) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "k b"]]:
    return (lags, K) if found.wide else smoothed(lags, K)


def _legend_beside(ax: "Axes", handles: Mapping[str, Any] | None = None, *, title: str | None = None) -> None:
    if handles is None:
        handles = {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if handles:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.02), "fontsize": "small", "frameon": False}
        ax.legend(list(handles.values()), list(handles), title=title, **place)
