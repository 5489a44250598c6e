"""The norm that stands in front of a recurrent layer, in the places where published models keep it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore
from ssm_analysis.families.base import Layer

if TYPE_CHECKING:
    from ssm_analysis.certificates import LayerNorm, RMSNorm

BESIDE = {
    "mixer": ("norm",),
    "mamba": ("input_layernorm",),
    "recurrent_block": ("temporal_pre_norm",),
    "temporal_block": ("temporal_pre_norm",),
    "hawk": ("hawk_norm",),
}
"""Names of the norm beside a layer, by the last part of the name of the layer's module: Mamba, Mamba-2, Falcon-Mamba and
Nemotron-H; Jamba, Zamba, Zamba-2, Bamba, Falcon-H1 and Granite; recurrentgemma; its port to transformers; Hawk. A name that means
several things in different models (``norm`` beside ``mamba``, before or behind it) is not here."""
OFFSET = ("temporal_pre_norm",)
"""These store w and multiply by 1 + w."""
WEIGHTS = ("weight", "scale", "gamma")


@dataclass(frozen=True, eq=False, kw_only=True)
class NormInFile:
    """A norm and the name of its weight in the checkpoint.

    Parameters
    ----------
    norm
        With the weight that it multiplies by.
    place
        The name.
    """

    norm: "RMSNorm | LayerNorm"
    place: str


def norm_in_front(store: TensorStore, group: Group, layer: Layer, *, name: str | None = None) -> NormInFile | None:
    """The norm in front of the layer that the group stores; None where the file has none of its width in a place that is known.

    Parameters
    ----------
    store, group, layer
        The checkpoint, where the layer is in it, and the layer.
    name
        Of the norm beside the layer, for models of one's own: ``ln`` for ``blocks.3.ln.weight`` in front of ``blocks.3.ssm``.

    Raises
    ------
    CheckpointError
        If it cannot be read, or holds NaN or infinite numbers.
    """
    from ssm_analysis.certificates import LayerNorm, RMSNorm

    parent, _, module = group.prefix.rstrip(".").rpartition(".")
    names = {name.replace("/", "."): name for name in store.shapes}
    for norm in BESIDE.get(module, ()) if name is None else (name,):
        stem = f"{parent}.{norm}" if parent else norm
        place = next((names[f"{stem}.{leaf}"] for leaf in WEIGHTS if f"{stem}.{leaf}" in names), None)
        if place is None or store.shapes[place] != (_width(layer),):
            continue
        weight = _numbers(store, place) + (1 if norm in OFFSET else 0)
        if f"{stem}.bias" not in names:
            return NormInFile(norm=RMSNorm(weight=weight), place=place)
        return NormInFile(norm=LayerNorm(weight=weight, bias=_numbers(store, names[f"{stem}.bias"])), place=place)
    return None


def _numbers(store: TensorStore, name: str) -> np.ndarray:
    x = store.read(name)
    if not np.all(np.isfinite(x)):
        raise CheckpointError(f"NaN or infinite entries in {name!r}, the norm in front of the layer", path=store.source)
    return x


def _width(layer: Layer) -> int | None:
    """Features that enter the layer, by the projection in front, the steps, or D."""
    for name, axis in (("in_proj.weight", 1), ("linear_x.weight", 1), ("inv_dt", 0), ("D", -1)):
        if name in layer.params:
            return layer.params[name].shape[axis]
    return None
