"""Pictures of selective layers along a real input: what they remember, token by token.

None of them shows a moment for the whole: a time constant of one token says how fast the layer forgets at that token.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.along.growth import LARGEST, StateGrowth
from ssm_analysis.analyses.along.poles import EffectivePoles, quantiles
from ssm_analysis.plots.curves import band
from ssm_analysis.plots.disk import COLORS
from ssm_analysis.xp import Array, is_array, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the poles of a token: outer band, inner band, median."""
MODULI = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999)
"""Where the upper axis of a histogram has its ticks."""
MOST_CHANNELS = 32
"""So many rows can still be told apart in a map."""
OPENNESS_LIMITS = (1, 8)
"""Colors reach to 2 times slower or faster than usual at least, and to 256 times at most."""
DECADES = 4.0
"""Weights below 1e-4 of the largest have the color of nothing."""
MOST_LABELS = 120
"""So many tokens are written out below an axis."""
SHOWN = {"\n": "⏎", " ": "·", "\t": "→", "\r": "↵"}
"""How tokens that leave no trace are written."""


def time_constant_histograms(found: Mapping[str, EffectivePoles], *, ax: "Axes | None" = None) -> "Axes":
    """Draw the shares of poles over their time constants, one ridge for each layer, its median marked; |lambda| on the upper axis.

    The figure of arXiv 2510.09379, on a logarithmic axis: near the circle |lambda| itself tells nothing apart.

    Parameters
    ----------
    found
        What ``effective_poles`` returned, by the name of the layer; the first is drawn at the top.
    ax
        Where to draw; by default a figure of its own.

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    if not found:
        raise ValueError("found must hold the effective poles of at least one layer, got none")
    ax = _axes(ax, (7.0, 1.2 + 0.55 * len(found)))
    low, high = _decades(found.values())
    for i, poles in enumerate(found.values()):
        edges, counts = to_numpy(poles.edges), to_numpy(poles.counts).astype(float)
        share = counts / max(np.sum(counts), 1)
        inside = share[1:-1]
        base = len(found) - 1 - i
        height = inside / max(np.max(share), 1e-300) * 0.85
        color = COLORS[0]
        ax.stairs(base + height, edges, baseline=base, fill=True, color=color, alpha=0.35)
        ax.stairs(base + height, edges, baseline=base, color=color, linewidth=0.8)
        (middle,) = to_numpy(quantiles(poles.counts, poles.edges, (0.5,)))
        ax.plot([np.clip(middle, low, high)] * 2, [base, base + 0.85], color="0.15", linewidth=1.2)
        for part, x, side in ((share[0], low, "left"), (share[-1], high, "right")):
            if part > 5e-4:
                words, inwards = f"{part:.1%} {'shorter' if side == 'left' else 'longer'}", 3 if side == "left" else -3
                ax.annotate(words, (x, base + 0.93), (inwards, 0), textcoords="offset points", ha=side, va="top", fontsize="x-small")
    ax.set(xscale="log", xlim=(low, high), ylim=(-0.1, len(found)), xlabel="time constant, tokens (line: median)")
    ax.set_yticks(np.arange(len(found)) + 0.4, list(found)[::-1])
    ax.tick_params(axis="y", length=0)
    ax.grid(True, axis="x", color="0.9", linewidth=0.6)
    ax.set_axisbelow(True)
    upper = ax.secondary_xaxis("top", functions=(_modulus, _tokens))
    upper.set_xticks([m for m in MODULI if low <= _tokens(np.asarray(m)) <= high], minor=False)
    upper.xaxis.set_major_formatter(_as_it_is)
    upper.minorticks_off()
    upper.set_xlabel("|λ|")
    return ax


def poles_along_tokens(found: EffectivePoles, *, tokens: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
    """Draw the time constants of all channels and states against the position of the token: median, bands of 50 and 90 %, and the
    slowest.

    Parameters
    ----------
    found
        What ``effective_poles`` returned.
    tokens
        What is written below the positions; empty: their numbers.
    ax
        Where to draw; by default a figure of its own.

    Raises
    ------
    ValueError
        If there are not as many tokens as positions.
    """
    shares = to_numpy(quantiles(found.by_token, found.edges, SHARES))
    slowest = np.min(to_numpy(found.slowest_rate).reshape(len(shares), -1), axis=1)
    ax = _axes(ax, (8.0, 3.4))
    position = np.arange(len(shares))
    top = float(to_numpy(found.edges)[-1])
    low = np.maximum(shares, float(to_numpy(found.edges)[0]))
    ax.fill_between(position, low[:, 0], np.minimum(low[:, 4], top), color=COLORS[0], alpha=0.18, linewidth=0, label="5 to 95 %")
    ax.fill_between(position, low[:, 1], np.minimum(low[:, 3], top), color=COLORS[0], alpha=0.35, linewidth=0, label="25 to 75 %")
    ax.plot(position, np.minimum(low[:, 2], top), color=COLORS[0], linewidth=1.3, label="median")
    with np.errstate(divide="ignore"):
        ax.plot(position, np.where(slowest > 0, 1 / np.maximum(slowest, 1e-300), np.nan), color=COLORS[1], linewidth=0.9, label="slowest")
    ax.set(yscale="log", ylabel="time constant at the token, tokens")
    ax.grid(True, axis="both" if not tokens else "y", color="0.9", linewidth=0.6)
    _token_axis(ax, len(position), tokens)
    ax.legend(fontsize="x-small", ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.14), frameon=False)
    return ax


def openness_map(
    openness: Float[Array, "l channels"], *, tokens: Sequence[str] = (), channels: Sequence[int] = (), ax: "Axes | None" = None
) -> "Axes":
    """Draw which tokens open (blue: they are kept) and which close (red: the past is erased) the memory of which channel.

    Parameters
    ----------
    openness
        ``found.openness()`` of `effective_poles`, or a stretch of its tokens: log2 of the usual decay rate over that of the token.
    tokens
        What is written below the columns; empty: their numbers.
    channels
        The rows; empty: the 32 that move most, the one that moves most at the top.
    ax
        Where to draw; by default a figure of its own.

    Raises
    ------
    ValueError
        If the sizes do not fit.
    """
    values = _array("openness", openness)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(f"openness must have shape (L, channels), got {values.shape}")
    seen = np.clip(np.where(np.isnan(values), -np.inf, values), -1e3, 1e3)  # a state that grows or stops decaying is off the scale
    rows = list(channels) or list(np.argsort(-np.std(seen, axis=0), kind="stable")[:MOST_CHANNELS])
    if any(not 0 <= i < values.shape[1] for i in rows):
        raise ValueError(f"channels must lie between 0 and {values.shape[1] - 1}, got {rows}")
    ax = _axes(ax, (max(5.0, min(14.0, 0.11 * len(values) + 2)), 1.4 + 0.13 * len(rows)))
    shown = seen[:, rows].T
    limit = int(np.clip(math.ceil(np.percentile(np.abs(shown), 95)), *OPENNESS_LIMITS))
    image = ax.imshow(shown, aspect="auto", cmap="RdBu", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_yticks(range(len(rows)), [str(int(i)) for i in rows], fontsize="xx-small")
    ax.set_ylabel("channel")
    _token_axis(ax, len(values), tokens)
    bar = _colorbar(ax, image, "decay rate, relative to the mean of the channel")
    steps = np.unique(np.linspace(-limit, limit, 9).round()).astype(int)
    bar.set_ticks(list(steps), labels=[f"1/{2**k}" if k > 0 else str(2**-k) for k in steps.tolist()])
    return ax


def retention_curves(retained: Float[Array, "l *states"], *, at: int = -1, ax: "Axes | None" = None, label: str = "") -> "Axes":
    """Draw what is left of each earlier token after token ``at``: the median of the states and the band from 5 to 95 %, against their
    distance.

    Parameters
    ----------
    retained
        One row of what ``retention`` returned, ``retention(sys, at=[t])[0]``.
    at
        The t of that row.
    ax
        Where to draw; by default a figure of its own.
    label
        For the legend.

    Raises
    ------
    ValueError
        If ``at`` is not a token.
    """
    values = _array("retained", retained)
    if not -len(values) <= at < len(values):
        raise ValueError(f"at must be one of the {len(values)} tokens, got {at}")
    t = at % len(values)
    back = values[: t + 1].reshape(t + 1, -1)[::-1]
    ax = _axes(ax, (6.0, 3.4))
    band(
        ax,
        np.arange(t + 1) + 1.0,
        back.T,
        label=f"{label}: median of {back.shape[1]} states" if label else f"median of {back.shape[1]} states",
    )
    ax.axhline(math.exp(-1), color="0.6", linewidth=0.7, linestyle=":")
    ax.set(
        xscale="log",
        xlim=(1, max(t + 1, 2)),
        ylim=(-0.02, 1.02),
        xlabel="age of the token, tokens (the last one: 1)",
        ylabel="what is left of it",
    )
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.legend(fontsize="small", loc="upper right")
    return ax


def attention_map(alpha: Array, *, tokens: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
    """Draw the hidden attention matrix |alpha[t, s]|, all channels together, on a logarithmic color scale of four decades.

    Parameters
    ----------
    alpha
        What ``hidden_attention`` returned, (l, l, *batch, p, m), or any matrix (l, l).
    tokens
        What is written beside rows and columns; empty: their numbers.
    ax
        Where to draw; by default a figure of its own.

    Raises
    ------
    ValueError
        If it is not a square matrix, or zero.
    """
    values = _array("alpha", alpha)
    if values.ndim < 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"alpha must have a row for each column, (l, l, ...), got {values.shape}")
    size = np.sqrt(np.sum(np.abs(values.reshape(*values.shape[:2], -1)) ** 2, axis=-1))
    largest = float(np.max(size))
    if largest == 0:
        raise ValueError("alpha must not be zero everywhere")
    side = max(5.4, 0.085 * len(size)) if tokens and len(size) <= MOST_LABELS else 5.4
    ax = _axes(ax, (side * 1.18, side))
    with np.errstate(divide="ignore"):
        shown = np.maximum(np.log10(size / largest), -DECADES)
    below = np.tril(np.ones_like(shown, dtype=bool))
    image = ax.imshow(np.where(below, shown, np.nan), cmap="magma_r", vmin=-DECADES, vmax=0, interpolation="nearest")
    _token_axis(ax, len(shown), tokens, label="token s that is read")
    _token_axis(ax, len(shown), tokens, label="token t that reads", vertical=True)
    bar = _colorbar(ax, image, "|α[t, s]|, relative to the largest")
    bar.set_ticks(list(np.arange(-DECADES, 1)), labels=[f"$10^{{{d:.0f}}}$" if d else "1" for d in np.arange(-DECADES, 1)])
    return ax


def state_norms(found: StateGrowth, *, tokens: Sequence[str] = (), ax: "Axes | None" = None) -> "Axes":
    """Draw the largest entry of the state of each channel along the tokens, and what float16 can hold where that is near.

    Parameters
    ----------
    found
        What ``state_growth`` returned.
    tokens
        What is written below the positions; empty: their numbers.
    ax
        Where to draw; by default a figure of its own.
    """
    largest = to_numpy(found.largest)
    largest = largest.reshape(len(largest), -1).T
    ax = _axes(ax, (8.0, 3.4))
    position = np.arange(largest.shape[1])
    floor = np.finfo(np.float64).tiny
    band(ax, position, np.maximum(largest, floor), label=f"median of {len(largest)} channels, 5 to 95 %, extremes")
    peak, least = float(np.max(largest)), float(np.min(largest[largest > 0], initial=1.0))
    ax.set(yscale="log", ylabel="largest entry of the state", ylim=(max(least, peak * 1e-8) / 2 if peak else 0.1, max(peak, floor) * 3))
    limit = LARGEST["float16"]
    if peak > 1e-3 * limit:
        ax.axhline(limit, color="#d62728", linewidth=1.0)
        ax.annotate("float16 overflows", (0.01, limit), xycoords=("axes fraction", "data"), va="bottom", fontsize="small", color="#d62728")
        ax.set_ylim(top=max(peak, limit) * 5)
    ax.grid(True, color="0.9", linewidth=0.6)
    _token_axis(ax, len(position), tokens)
    ax.legend(fontsize="small", loc="lower right")
    return ax


def _decades(found: Any) -> tuple[float, float]:
    """Return whole decades of tokens that hold all but one in a thousand of the poles of every layer."""
    ends = np.stack([to_numpy(quantiles(poles.counts, poles.edges, (5e-4, 1 - 5e-4))) for poles in found])
    edges = to_numpy(next(iter(found)).edges)
    ends = np.clip(ends, edges[0], edges[-1])
    return 10 ** math.floor(math.log10(np.min(ends)) + 1e-9), 10 ** math.ceil(math.log10(np.max(ends)) - 1e-9 + 0.02)


def _modulus(tau: Any) -> Any:
    return np.exp(-1 / np.maximum(tau, 1e-2))


def _tokens(modulus: Any) -> Any:
    return -1 / np.log(np.clip(modulus, 1e-40, 1 - 1e-12))


def _as_it_is(x: float, _: float) -> str:
    return f"{x:g}"


def _token_axis(ax: "Axes", count: int, tokens: Sequence[str], *, label: str = "token", vertical: bool = False) -> None:
    axis = ax.yaxis if vertical else ax.xaxis
    if tokens and len(tokens) != count:
        raise ValueError(f"tokens must hold one for each of the {count} positions, got {len(tokens)}")
    if tokens and count <= MOST_LABELS:
        size = "x-small" if count <= 60 else "xx-small"
        words = [SHOWN.get(token, token) for token in tokens]
        turn = 90 if not vertical and any(len(word) > 1 for word in words) else 0
        axis.set_ticks(range(count), words, fontsize=size, rotation=turn)
        axis.set_tick_params(length=0)
    axis.set_label_text(label if tokens and count <= MOST_LABELS else f"position of {label}" if label != "token" else "position, tokens")


def _colorbar(ax: "Axes", image: Any, label: str) -> Any:
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)  # type: ignore[union-attr]
    bar.set_label(label, fontsize="small")
    bar.ax.tick_params(labelsize="x-small")
    return bar


def _axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _array(name: str, x: Array) -> np.ndarray:
    if not is_array(x):
        raise TypeError(f"{name} must be an array, got {type(x).__name__}")
    return np.asarray(to_numpy(x))
