"""The norm that stands in front of a recurrent layer, in the places where published models keep it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore
from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.families.shared.facts import NormPlace

if TYPE_CHECKING:
    from ssm_analysis.certificates import LayerNorm, RMSNorm

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
    """Return the norm in front of the layer that the group stores; None where the file has none of its width in a place that is known.

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
    facts = FAMILIES[layer.family].facts
    places = [place for place in facts.norm_places if place.module == module] if name is None else [NormPlace(module=module, norm=name)]
    for norm in places:
        stem = f"{parent}.{norm.norm}" if parent else norm.norm
        place = next((names[f"{stem}.{leaf}"] for leaf in WEIGHTS if f"{stem}.{leaf}" in names), None)
        if place is None or store.shapes[place] != (facts.width(layer.params, layer.options),):
            continue
        weight = _numbers(store, place) + (1 if norm.adds_one else 0)
        if f"{stem}.bias" not in names:
            return NormInFile(norm=RMSNorm(weight=weight), place=place)
        return NormInFile(norm=LayerNorm(weight=weight, bias=_numbers(store, names[f"{stem}.bias"])), place=place)
    return None


def _numbers(store: TensorStore, name: str) -> np.ndarray:
    x = store.read(name)
    if not np.all(np.isfinite(x)):
        raise CheckpointError(f"NaN or infinite entries in {name!r}, the norm in front of the layer", path=store.source)
    return x
