"""One picture of a checkpoint, or of one of its layers; layers are read one by one, so that memory stays that of the largest.

A selective layer has eigenvalues at the step of its bias alone, which the picture says. Gains, kernels and Hankel singular
values it has only along an input.
"""

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.gramians.energy import energy_beyond
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.memory.lemma import memory
from ssm_analysis.checkpoint.loading import FoundLayers, Source, find_layers
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.families import FAMILIES
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.examined import ExaminedLayer, examine
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.plots import curves
from ssm_analysis.plots.channels import Channels, stable_channels
from ssm_analysis.plots.layer_curves import (
    FREQUENCY,
    Line,
    bode_of_layer,
    gain_axis,
    gain_line,
    hankel_axis,
    hankel_line,
    impulse_of_layer,
    kernel_line,
    lag_axis,
    lines_of_layers,
    relative,
    share_axis,
    shortened,
    size_axis,
)
from ssm_analysis.plots.spectra import LayerModes, draw_spectra, layer_modes, wrapped
from ssm_analysis.xp import to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NEEDS_SYSTEM = {"bode": "frequency response", "impulse": "kernel", "hsv": "Hankel singular values"}
"""Pictures of what a selective layer does not have without an input."""
OTHERWISE = (
    "without one there is no frequency response and there are no Hankel singular values, and the kernel grows without end; "
    "look at the eigenvalues: ssm-analysis plot unit-disk"
)
"""What follows where no channel is stable."""
UNTELLING = {"best", "checkpoint", "ckpt", "diffusion_pytorch_model", "final", "last", "model", "params", "pytorch_model", "weights"}
"""Names of files to which titles add the folder."""
LAGS_PER_DECADE, LAST_LAG = 8, 10**7
PROGRESS = Callable[[int, int], None]


def checkpoint_picture(
    picture: str, source: Source, *, layer: str | None = None, progress: PROGRESS | None = None, **read: Unpack[ReadKeywords]
) -> "Figure":
    """Draw all layers of a checkpoint, or one of them.

    Parameters
    ----------
    picture
        "unit-disk": eigenvalues in the disk, and their time constants; "bode": gain and phase; "impulse": the kernel; "hsv": Hankel
        singular values; "memory": shares that last longer than so many tokens.
    source
        A checkpoint or a live module, as for `ssm_analysis.load`.
    layer
        The name of one layer, which is drawn channel by channel, as is the only one of a checkpoint. None: all layers.
    progress
        Called with the number of layers that are read and of all.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``; see `ReadOptions`.

    Raises
    ------
    CheckpointError, KeyError
        As `ssm_analysis.load`, and if there is no such layer.
    ValueError
        If there is no such picture, or the layers depend on their input and the picture needs one that does not; if no channel of
        a layer is stable and the picture needs one.

    Examples
    --------
    >>> from ssm_analysis.plots.checkpoints import checkpoint_picture
    >>> layer = ssm.FAMILIES["lru"].init(d_model=4, d_state=8)
    >>> figure = checkpoint_picture("unit-disk", dict(layer.params))
    >>> [ax.get_title() for ax in figure.axes]
    ['Inside the circle: stable; near it: long memory', 'How long, and how fast it oscillates']
    """
    with find_layers(source, ReadOptions(**read)) as checkpoint:
        return draw_checkpoint(picture, checkpoint, title=_title(source), layer=layer, progress=progress)


def draw_checkpoint(
    picture: str, checkpoint: FoundLayers, *, title: str, layer: str | None = None, progress: PROGRESS | None = None
) -> "Figure":
    """Draw all layers of an open checkpoint, or one of them; see `checkpoint_picture`."""
    if picture not in DRAWN:
        raise ValueError(f"picture must be one of {', '.join(DRAWN)}, got {picture!r}")
    if layer is not None:
        one = examine(checkpoint.read_one(layer))
        _check_system([one.layer.family], picture, f"layer {one.layer.name!r}")
        return DRAWN[picture][0](one, title)
    families = [group.layout.family for group in checkpoint.groups]
    _check_system(families, picture, "this checkpoint")
    drawn = [g for g in checkpoint.groups if picture not in NEEDS_SYSTEM or not _selective(g.layout.family)]
    left_out = len(checkpoint.groups) - len(drawn)
    if len(checkpoint.groups) == 1 and len(alone := checkpoint.read(drawn[0])) == 1:
        return DRAWN[picture][0](examine(alone[0]), title)
    layers = _counted((one for group in drawn for one in checkpoint.read(group)), [g.name for g in drawn], progress)
    remark = f"; {left_out} selective layer{'s' * (left_out > 1)} left out" if left_out else ""
    return DRAWN[picture][1]((examine(one) for one in layers), title, remark)


def _check_system(families: list[str], picture: str, who: str) -> None:
    if picture not in NEEDS_SYSTEM or not all(_selective(family) for family in families):
        return
    titles = ", ".join(dict.fromkeys(FAMILIES[family].title for family in families))
    raise ValueError(
        f"{who} has no {NEEDS_SYSTEM[picture]} without an input: what it does depends on what it reads ({titles}); "
        "draw unit-disk or memory, or look at one moment in Python: layer.along(u).frozen(at) with the input u, (L, d_model)"
    )


def _selective(family: str) -> bool:
    return hasattr(FAMILIES[family], "along")


def _counted(layers: Iterable[Layer], groups: list[str], progress: PROGRESS | None) -> Iterator[Layer]:
    """Yield the layers; of a bidirectional one both directions count as one."""
    if progress is not None:
        progress(0, len(groups))
    for layer in layers:
        yield layer
        if progress is not None:
            progress(groups.index(layer.name.removesuffix(":reverse")) + 1, len(groups))


def _stable(one: ExaminedLayer) -> Channels | None:
    return None if one.system is None else stable_channels(one.layer, one.system, one.poles)


def _channels(one: ExaminedLayer) -> Channels:
    found = _stable(one)
    if found is None:
        raise ValueError(f"layer {one.layer.name!r} has no stable channel: {OTHERWISE}")
    return found


def _title(source: Source) -> str:
    """Return how the checkpoint is called in titles."""
    if isinstance(source, str | os.PathLike):
        path = Path(source).resolve()
        stem = path.name if path.is_dir() else path.stem
        return shortened(f"{path.parent.name}/{stem}" if stem.lower() in UNTELLING else stem, 60)
    return "state dict" if isinstance(source, Mapping) else type(source).__name__


def _figure(size: tuple[float, float], title: str, below: str = "") -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle("\n".join(wrapped(words, size[0]) for words in (title, below) if words), fontsize="large")
    return figure


def _headline(name: str, one: ExaminedLayer) -> str:
    who = f"layer {shortened(one.layer.name, 50)} of {name}" if one.layer.name else name
    return f"{who}, {FAMILIES[one.layer.family].title}"


def _of_families(layers: list[str]) -> str:
    counts = Counter(FAMILIES[family].title for family in layers)
    return ", ".join(f"{n} layer{'s' * (n > 1)} of {title}" for title, n in counts.items())


# the unit disk


def _layer_modes(one: ExaminedLayer) -> LayerModes:
    return layer_modes(one.layer.name, one.layer.family, one.poles)


def _disk_of_layer(one: ExaminedLayer, name: str) -> "Figure":
    found = _layer_modes(one)
    return draw_spectra([found], title=f"{_headline(name, one)}: {found.count:,} eigenvalues")


def _disk_of_all(layers: Iterator[ExaminedLayer], name: str, words: str) -> "Figure":
    found = [_layer_modes(one) for one in layers]
    count = sum(one.count for one in found)
    return draw_spectra(found, title=f"{name}: {_of_families([one.family for one in found])}, {count:,} eigenvalues{words}")


# curves


def _bode_of_layer(one: ExaminedLayer, name: str) -> "Figure":
    found = _channels(one)
    figure = _figure((8.6, 3.8 if found.wide else 5.6), f"Frequency response of {_headline(name, one)}", found.words)
    bode_of_layer(figure, found)
    return figure


def _impulse_of_layer(one: ExaminedLayer, name: str) -> "Figure":
    found = _channels(one)
    figure = _figure((8.6, 4.2 if found.wide else 6.4), f"Kernel of {_headline(name, one)}", found.words)
    impulse_of_layer(figure, found)
    return figure


def _hsv_of_layer(one: ExaminedLayer, name: str) -> "Figure":
    found = _channels(one)
    figure = _figure((7.0, 4.6), f"Hankel singular values of {_headline(name, one)}", f"{found.words}: how many states each needs")
    ax = figure.add_subplot()
    sigma = to_numpy(hsv(found.system))
    curves.hsv(sigma, ax=ax, label="channels" if len(sigma) > 1 else None)
    hankel_axis(ax, float(np.min(relative(sigma))))
    return figure


def _memory_of_layer(one: ExaminedLayer, name: str) -> "Figure":
    lags = _lags(one.poles)
    found = _stable(one)
    what = f"{one.poles.rates.size:,} modes of: {one.poles.matrix}" if found is None else found.words
    figure = _figure((7.0, 4.4), f"Memory of {_headline(name, one)}", what)
    ax = figure.add_subplot()
    if found is None:
        ax.plot(lags, 100 * _modes_beyond(one.poles, lags), marker="o", markersize=3, label="modes with a longer time constant")
    else:
        known = memory(found.system, lags=tuple(int(lag) for lag in lags))
        shares = _finite(known.energy_beyond)
        if len(shares) > curves.FEW:
            low, high = np.percentile(100 * shares, curves.BAND, axis=0)
            ax.fill_between(lags, low, high, color="C2", alpha=0.2, linewidth=0, label="energy, 5 to 95 % of the channels")
        modes = np.broadcast_to(_modes_beyond(one.poles, lags), known.modes_beyond.shape)
        curves.memory(replace(known, modes_beyond=modes), ax=ax)
    share_axis(ax)
    ax.legend(fontsize="small", title="mean over the channels" if found is not None and len(found.slowest) > 1 else None)
    return figure


def _bode_of_all(layers: Iterator[ExaminedLayer], name: str, words: str) -> "Figure":
    lines, told = _lines(layers, gain_line)
    figure, ax = _figure_of_lines(lines, f"Gain of {name}: {told}{words}")
    gain_axis(ax, np.concatenate([line.y for line in lines]))
    ax.set(xlim=(min(float(line.x[0]) for line in lines), math.pi), xlabel=FREQUENCY, ylabel="gain, dB")
    return figure


def _impulse_of_all(layers: Iterator[ExaminedLayer], name: str, words: str) -> "Figure":
    lines, told = _lines(layers, kernel_line)
    figure, ax = _figure_of_lines(lines, f"Size of the kernels of {name}: {told}{words}")
    lag_axis(ax, max((line.x for line in lines), key=lambda x: x[-1]))
    size_axis(ax, np.concatenate([line.y for line in lines]))
    ax.set_ylabel("size of the kernel")
    return figure


def _hsv_of_all(layers: Iterator[ExaminedLayer], name: str, words: str) -> "Figure":
    lines, told = _lines(layers, hankel_line)
    figure, ax = _figure_of_lines(lines, f"Hankel singular values of {name}: {told}{words}")
    hankel_axis(ax, min(float(line.y[-1]) for line in lines))
    return figure


def _memory_of_all(layers: Iterator[ExaminedLayer], name: str, words: str) -> "Figure":
    modes, energy, families = [], [], {}
    for one in layers:
        families[one.layer.name] = one.layer.family
        lags = _lags(one.poles)
        if one.poles.trusted:
            modes.append(Line(layer=one.layer.name, x=lags, y=100 * _modes_beyond(one.poles, lags), what="modes"))
        found = _stable(one)
        shares = () if found is None else _finite(energy_beyond(found.system, tuple(int(lag) for lag in lags)))
        if len(shares):
            energy.append(Line(layer=one.layer.name, x=lags, y=100 * np.mean(shares, axis=0), what="mean over the channels"))
    titles = {"share of modes with a longer time constant": modes, "share of the energy of the kernel": energy}
    panels = {title: lines for title, lines in titles.items() if lines}
    if not panels:
        raise ValueError(f"no layer has modes that are known, nor a stable channel: {OTHERWISE}")
    below = "selective layers: at the step of the bias alone" if any(map(_selective, families.values())) else ""
    figure = _figure((5.0 * len(panels) + 2.8, 4.4), f"Memory of {name}: {_of_families(list(families.values()))}{words}", below)
    axes = list(figure.subplots(1, len(panels), squeeze=False)[0])
    lines_of_layers(axes, list(panels.values()), depth={layer: i for i, layer in enumerate(families)})
    for ax, title in zip(axes, panels, strict=True):
        ax.set_title(title)
        share_axis(ax)
    return figure


def _figure_of_lines(lines: list[Line], title: str) -> tuple["Figure", "Axes"]:
    figure = _figure((8.6, 4.4), title, " or ".join(dict.fromkeys(line.what for line in lines)))
    ax = figure.add_subplot()
    lines_of_layers([ax], [lines], depth={line.layer: i for i, line in enumerate(lines)})
    return figure, ax


def _lines(layers: Iterator[ExaminedLayer], line: Callable[[Channels], Line]) -> tuple[list[Line], str]:
    """Return a line for each layer with a stable channel, and in words which layers these are."""
    lines, families, lost = [], [], 0
    for one in layers:
        found = _stable(one)
        if found is None:
            lost += 1
            continue
        lines.append(line(found))
        families.append(one.layer.family)
    if not lines:
        raise ValueError(f"none of the {lost} layers has a stable channel: {OTHERWISE}")
    return lines, _of_families(families) + (f"; {lost} unstable left out" if lost else "")


def _finite(shares: Float[np.ndarray, "k lags"]) -> Float[np.ndarray, "_ lags"]:
    """Return without the channels that pass nothing on, whose shares are NaN."""
    return shares[~np.any(np.isnan(shares), axis=-1)]


def _lags(poles: LayerPoles) -> Float[np.ndarray, " lags"]:
    """Return tokens, evenly spaced on a logarithmic axis from 1 on, to ten times the longest time constant."""
    slowest = float(np.min(poles.rates))
    last = LAST_LAG if slowest <= 10 / LAST_LAG else max(1000.0, 10 / slowest)
    return np.unique(np.round(10 ** (np.arange(math.ceil(LAGS_PER_DECADE * math.log10(last)) + 1) / LAGS_PER_DECADE)))


def _modes_beyond(poles: LayerPoles, lags: Float[np.ndarray, " lags"]) -> Float[np.ndarray, " lags"]:
    """Return share of the modes with a time constant of at least each lag: 1/rate >= T."""
    if not poles.trusted:
        return np.full(len(lags), math.nan)
    rates = np.sort(np.maximum(poles.rates, 0.0))
    with np.errstate(divide="ignore"):
        return np.searchsorted(-(1 / rates), -lags, side="right") / len(rates)


DRAWN: dict[str, tuple[Callable[..., "Figure"], Callable[..., "Figure"]]] = {
    "unit-disk": (_disk_of_layer, _disk_of_all),
    "bode": (_bode_of_layer, _bode_of_all),
    "impulse": (_impulse_of_layer, _impulse_of_all),
    "hsv": (_hsv_of_layer, _hsv_of_all),
    "memory": (_memory_of_layer, _memory_of_all),
}
"""For each picture what draws one layer, and what draws all."""
