"""Curves of responses, Hankel singular values and memory: single lines for few channels, a band and its median for many."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.memory.lemma import Memory
from ssm_analysis.xp import Array, is_array, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEW = 12
"""Up to so many curves are drawn one by one."""
BAND = (5.0, 95.0)
"""Percentiles of the band that stands for more."""


def bode(omega: Array, response: Array, *, ax: "Axes | None" = None, label: str | None = None) -> "Axes":
    """Draw gain in decibels against frequency, and the phase below it.

    Parameters
    ----------
    omega
        Frequencies (f,), rad/token; the axis is logarithmic if all are positive.
    response
        What ``frequency_response`` returned for them, (*batch, f, p, m): one curve for each channel, input and output.
    ax
        Where to draw; by default a figure of its own. The phase hangs below these axes.
    label
        For the legend.

    Raises
    ------
    ValueError
        If the frequencies do not match the response.
    """
    w, G = _array("omega", omega), np.moveaxis(_array("response", response), -3, -1)
    if w.ndim != 1 or G.shape[-1] != len(w):
        raise ValueError(f"omega must hold one frequency for each of the {G.shape[-1]} points of the response, got the shape {w.shape}")
    G = G.reshape(-1, len(w))
    ax = _axes(ax, (5.0, 4.6))
    with np.errstate(divide="ignore"):
        gain = 20 * np.log10(np.abs(G))
    _curves(ax, w, gain, label)
    hanging: list[Any] = [child for child in ax.child_axes if child.get_label() == "phase"]
    lower = hanging[0] if hanging else ax.inset_axes((0.0, -0.62, 1.0, 0.5), label="phase", sharex=ax)
    _curves(lower, w, np.unwrap(np.angle(G), axis=-1) / math.pi, None)
    if np.all(w > 0):
        ax.set_xscale("log")
    ax.set_ylabel("gain, dB")
    ax.tick_params(labelbottom=False)
    lower.set(xlabel="frequency, rad/token", ylabel="phase / π")
    for a in (ax, lower):
        a.grid(True, color="0.9", linewidth=0.6)
        if np.max(w) <= math.pi * (1 + 1e-9):
            a.axvline(math.pi, color="0.5", linewidth=0.8, linestyle=":")  # half a cycle per token: nothing lies beyond
    if label:
        ax.legend(fontsize="small")
    return ax


def impulse(kernel: Array, *, ax: "Axes | None" = None, label: str | None = None) -> "Axes":
    """Draw the kernel over time.

    Parameters
    ----------
    kernel
        What ``impulse_response`` returned, (*batch, l, p, m).
    ax
        Where to draw; by default a figure of its own.
    label
        For the legend.
    """
    K = np.moveaxis(np.real(_array("kernel", kernel)), -3, -1)
    ax = _axes(ax, (5.0, 3.2))
    _curves(ax, np.arange(K.shape[-1]), K.reshape(-1, K.shape[-1]), label)
    ax.axhline(0, color="0.6", linewidth=0.6)
    ax.set(xlabel="lag, tokens", ylabel="impulse response")
    ax.grid(True, color="0.9", linewidth=0.6)
    if label:
        ax.legend(fontsize="small")
    return ax


def hsv(values: Array, *, ax: "Axes | None" = None, label: str | None = None) -> "Axes":
    """Draw Hankel singular values over their number, relative to the first: how many states a map needs.

    Parameters
    ----------
    values
        What ``ssm.hsv`` returned, (*batch, n).
    ax
        Where to draw; by default a figure of its own.
    label
        For the legend.
    """
    sigma = _array("values", values)
    sigma = sigma.reshape(-1, sigma.shape[-1])
    sigma = sigma[sigma[:, 0] > 0]
    if not len(sigma):
        raise ValueError("values must hold a system that passes something on, got Hankel singular values that are all 0")
    ax = _axes(ax, (5.0, 3.2))
    floor = np.finfo(np.float64).tiny
    _curves(ax, np.arange(1, sigma.shape[-1] + 1), np.maximum(sigma / sigma[:, :1], floor), label)
    ax.set_yscale("log")
    low = float(np.min(sigma / sigma[:, :1]))
    ax.set_ylim(max(low, 1e-20) / 2, 2)
    ax.set(xlabel="number", ylabel="Hankel singular value, relative to the first")
    ax.grid(True, color="0.9", linewidth=0.6)
    if label:
        ax.legend(fontsize="small")
    return ax


def memory(found: Memory, *, ax: "Axes | None" = None) -> "Axes":
    """Draw what is remembered beyond each lag: shares of modes, of residues and of energy, averaged over the channels.

    Parameters
    ----------
    found
        What ``ssm.memory`` returned; give it many ``lags`` for smooth curves.
    ax
        Where to draw; by default a figure of its own.
    """
    ax = _axes(ax, (5.0, 3.2))
    styles = (
        ("modes", found.modes_beyond, "-"),
        ("residues", found.residue_beyond, "--"),
        ("energy of the kernel", found.energy_beyond, ":"),
    )
    for name, shares, style in styles:
        y = to_numpy(shares).reshape(-1, len(found.lags))
        if not np.all(np.isnan(y)):
            ax.plot(found.lags, 100 * np.nanmean(y, axis=0), linestyle=style, marker="o", markersize=3, label=name)
    ax.set_xscale("log")
    ax.set(xlabel="lag, tokens", ylabel="share beyond the lag, %", ylim=(-2, 102))
    ax.grid(True, color="0.9", linewidth=0.6)
    ax.legend(fontsize="small")
    return ax


def band(ax: "Axes", x: np.ndarray, y: Float[np.ndarray, "k points"], *, label: str, color: str | None = None) -> None:
    """Draw many curves as their median, the band from 5 to 95 % around it, and dotted the extremes."""
    least, low, middle, high, most = np.percentile(y, (0, BAND[0], 50, BAND[1], 100), axis=0)
    (line,) = ax.plot(x, middle, linewidth=1.4, color=color, label=label)
    ax.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
    for extreme in (least, most):
        ax.plot(x, extreme, color=line.get_color(), linewidth=0.6, alpha=0.7, linestyle=":")


def _curves(ax: "Axes", x: np.ndarray, y: Float[np.ndarray, "k points"], label: str | None) -> None:
    if len(y) <= FEW:
        (first, *_) = ax.plot(x, y[0], linewidth=1.2, label=label)
        ax.plot(x, y[1:].T, color=first.get_color(), linewidth=1.2, alpha=0.6)  # one color for all channels of a response
        return
    words = f"median of {len(y):,}\n(band: 5 to 95 %, dotted: extremes)"
    band(ax, x, y, label=f"{label}: {words}" if label else words)


def _axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]


def _array(name: str, x: Array) -> np.ndarray:
    if not is_array(x):
        raise TypeError(f"{name} must be an array, got {type(x).__name__}")
    found = np.asarray(to_numpy(x))
    if not np.all(np.isfinite(found)):
        raise ValueError(f"{name} must be finite to be drawn, got NaN or infinite entries")
    return found
