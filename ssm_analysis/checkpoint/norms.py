"""The norm that stands in front of a recurrent layer, in the places where published models keep it."""

from typing import TYPE_CHECKING

from ssm_analysis.checkpoint.recognition import Group
from ssm_analysis.checkpoint.store import TensorStore

if TYPE_CHECKING:
    from ssm_analysis.certificates import LayerNorm, RMSNorm

BESIDE = {
    "mixer": ("norm",),
    "mamba": ("input_layernorm",),
    "recurrent_block": ("temporal_pre_norm",),
    "temporal_block": ("temporal_pre_norm",),
    "hawk": ("hawk_norm",),
}
"""Names of the norm beside a layer, by the last part of the name of the layer's module. A name that means several things in
different models (``norm`` beside ``mamba``, before or behind it) is not here."""
OFFSET = ("temporal_pre_norm",)
"""These store w and multiply by 1 + w."""
WEIGHTS = ("weight", "scale", "gamma")


def norm_in_front(store: TensorStore, group: Group) -> "RMSNorm | LayerNorm | None":
    """The norm with its weight; None where the file has none in a place that is known."""
    from ssm_analysis.certificates import LayerNorm, RMSNorm

    parent, _, module = group.prefix.rstrip(".").rpartition(".")
    names = {name.replace("/", "."): name for name in store.shapes}
    for norm in BESIDE.get(module, ()):
        stem = f"{parent}.{norm}" if parent else norm
        stored = next((names[f"{stem}.{leaf}"] for leaf in WEIGHTS if f"{stem}.{leaf}" in names), None)
        if stored is None or len(store.shapes[stored]) != 1:
            continue
        weight = store.read(stored) + (1 if norm in OFFSET else 0)
        bias = names.get(f"{stem}.bias")
        return RMSNorm(weight=weight) if bias is None else LayerNorm(weight=weight, bias=store.read(bias))
    return None
