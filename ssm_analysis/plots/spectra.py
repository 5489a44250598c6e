"""The eigenvalues of one layer or of all layers of a checkpoint: the disk, and beside it the time constants."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ssm_analysis.families import FAMILIES
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.plots.disk import ALARM, COLORS, MANY, Points, all_real, disk
from ssm_analysis.plots.time_constants import (
    FARTHEST,
    INK,
    Modes,
    against_angle,
    by_layer,
    by_rank,
    modes_of_log_poles,
    moduli_at_the_right,
    rate_percentiles,
    tau_limits,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 4.7
"""Width of one panel, inches."""
LETTERS = 11
"""Of the size "large", in an inch."""


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerModes:
    """The eigenvalues of one layer as they are drawn."""

    name: str
    family: str
    matrix: str
    """Whose eigenvalues, in words."""
    one_of_each_pair: bool
    trusted: bool
    """Whether all are known, or the slowest alone."""
    count: int
    modes: Modes
    """All of them, or the slowest alone."""
    percentiles: Float[np.ndarray, "5"]
    """`rate_percentiles`."""


def layer_modes(name: str, family: str, poles: LayerPoles) -> LayerModes:
    """Return what is drawn of the eigenvalues ``poles``."""
    modes = modes_of_log_poles(poles.log_poles if poles.trusted else np.max(np.real(poles.log_poles), keepdims=True))
    return LayerModes(
        name=name,
        family=family,
        matrix=poles.matrix,
        one_of_each_pair=poles.one_of_each_pair,
        trusted=poles.trusted,
        count=poles.rates.size,
        modes=modes,
        percentiles=rate_percentiles(poles.rates),
    )


def draw_spectra(layers: Sequence[LayerModes], *, title: str) -> "Figure":
    """Draw the disk; time constants against the angle, unless all eigenvalues are real; and layer by layer, or else by rank."""
    from matplotlib.figure import Figure

    known = [one.modes for one in layers if one.trusted]
    modes = Modes(angle=_joined([m.angle for m in known]), rate=_joined([m.rate for m in known]))
    points = modes.points
    real = all_real([points])
    by_depth = len(layers) > 1 or not len(modes.rate)
    panels = 1 + (not real) + (by_depth or real)
    figure = Figure(figsize=(PANEL * panels, 5.6), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.08)  # type: ignore[union-attr]
    figure.suptitle(f"{wrapped(title, PANEL * panels)}\n{wrapped(_whose(layers), PANEL * panels)}", fontsize="large")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    limits = tau_limits([one.modes.rate for one in layers])
    _draw_disk(axes[0], points, modes, [one for one in layers if not one.trusted])
    if not real:
        against_angle(modes, ax=axes[1], limits=limits)
    if by_depth:
        by_layer([one.percentiles for one in layers], known=[one.trusted for one in layers], ax=axes[-1], limits=limits)
    elif real:
        by_rank(modes, ax=axes[-1], limits=limits)
    moduli_at_the_right(axes[-1], limits)
    return figure


def wrapped(words: str, inches: float) -> str:
    """Return lines that fit into a figure of this width."""
    return textwrap.fill(words, int(LETTERS * inches), break_long_words=False)


def _draw_disk(ax: "Axes", points: Points, modes: Modes, unknown: Sequence[LayerModes]) -> None:
    from matplotlib.lines import Line2D

    disk([points], ax=ax)
    ax.set_title("Inside the circle: stable; near it: long memory", fontsize="medium")
    near = modes.slowest
    handles: list[Line2D] = []
    if len(points.angle):
        many = len(points.angle) > MANY
        label = "eigenvalues" if not many else "eigenvalues (height: how many)" if all_real([points]) else "eigenvalues (darker: more)"
        handles.append(Line2D([], [], marker="s" if many else "o", linestyle="", color=COLORS[0], label=label))
    if len(near):
        ring = {"marker": "o", "linestyle": "", "color": INK, "markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7}
        ax.plot(np.real(points.z[near]), np.imag(points.z[near]), zorder=2.5, **ring)
        handles.append(Line2D([], [], label=f"the {len(near)} slowest of them" if len(near) > 1 else "the slowest of them", **ring))
    lost = int(np.count_nonzero(modes.rate <= 0)) + sum(int(one.percentiles[0] <= 0) for one in unknown)
    if lost:
        far = f", those beyond {FARTHEST:g} drawn at {FARTHEST:g}" if np.any(modes.rate < -np.log(FARTHEST)) else ""
        label = f"{lost:,} with |λ| ≥ 1: unstable{far}"
        handles.append(Line2D([], [], marker="x", linestyle="", color=ALARM, markeredgewidth=1.6, label=label))
    turn = np.exp(1j * np.linspace(0, 2 * np.pi, 513))
    for one in unknown:
        ring_at = turn * float(np.exp(-max(one.percentiles[0], -np.log(FARTHEST))))
        ax.plot(np.real(ring_at), np.imag(ring_at), color=INK, linestyle=":", linewidth=1.0)
    if unknown:
        label = f"largest |λ| of {len(unknown)} layer{'s' * (len(unknown) > 1)}, where no other is known"
        handles.append(Line2D([], [], color=INK, linestyle=":", label=label))
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.16), fontsize="small", frameon=False)


def _whose(layers: Sequence[LayerModes]) -> str:
    """Return whose eigenvalues these are."""
    matrices = list(dict.fromkeys(one.matrix + (", one of each conjugate pair" if one.one_of_each_pair else "") for one in layers))
    some = "; ".join(matrices[:2]) + (f"; and {len(matrices) - 2} more" if len(matrices) > 2 else "")
    selective = " (each token gives others)" if any(hasattr(FAMILIES[one.family], "along") for one in layers) else ""
    return f"matrix: {some}{selective}"


def _joined(parts: Sequence[Float[np.ndarray, " _"]]) -> Float[np.ndarray, " n"]:
    return np.concatenate(parts) if parts else np.zeros(0)
