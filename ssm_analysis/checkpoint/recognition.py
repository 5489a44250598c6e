"""Which tensors of a checkpoint are recurrent layers: groups of names that fit a layout."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from ssm_analysis.checkpoint.containers.trees import OPTIMIZER
from ssm_analysis.checkpoint.problems import near_miss
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few
from ssm_analysis.families import FAMILIES
from ssm_analysis.families.shared.layouts import Layout
from ssm_analysis.families.shared.parameters import check_params

Shape = tuple[int, ...]
SCALES = ("_scale", "_scale_inv", ".absmax", ".quant_state")
"""Ends of the names of the scales of quantized weights: of 8-bit floats, and of 4 bits in bitsandbytes."""
EIGHT_BITS = ("int8", "uint8", "int4", "uint4", "int2", "uint2")


@dataclass(frozen=True, eq=False, kw_only=True)
class Group:
    """The tensors of one layer, not yet read."""

    name: str
    """Where the layer stands in its model; empty for a bare layer."""
    prefix: str
    """What stands in front of the leaves, with its dot."""
    layout: Layout
    stored: Mapping[str, str]
    """Names in the checkpoint by leaf: of the tensors that are read."""

    def read(self, store: TensorStore) -> dict[str, np.ndarray]:
        """Return the numbers by leaf, in 64 bits, integers but for single ones too.

        Raises
        ------
        CheckpointError
            If a tensor is damaged, or quantized: its numbers mean something only with a scale that is stored elsewhere.
        """
        for name in self.stored.values():
            scale = next((name + end for end in SCALES if name + end in store.shapes), None)
            scale = scale or next((other for other in _beside(name) if other in store.shapes), None)
            if scale is not None or (store.dtypes[name] in EIGHT_BITS and store.shapes[name]):
                why = f"{scale!r} stands beside it" if scale else f"it is stored as {store.dtypes[name]}"
                raise CheckpointError(f"is quantized, {why}; store the weights in 16 or 32 bits first", path=store.source, tensor=name)
        tensors = {leaf: store.read(name) for leaf, name in self.stored.items()}
        return {leaf: x.astype(np.float64) if x.dtype.kind in "iub" and x.ndim else x for leaf, x in tensors.items()}


@dataclass(frozen=True)
class _Shaped:
    """As much of an array as its header tells."""

    shape: Shape

    @property
    def ndim(self) -> int:
        return len(self.shape)


def recognize(store: TensorStore, *, family: str | None = None, layouts: Sequence[Layout] = ()) -> tuple[list[Group], list[str]]:
    """Return the groups in the order of their depth, and in words what looked like a layer and is none.

    Raises
    ------
    KeyError
        If the family is unknown.
    """
    names, problems = _dotted(store)
    kinds = [FAMILIES[family]] if family is not None else FAMILIES.values()
    candidates = [*layouts, *(layout for kind in kinds for layout in kind.layouts)]
    claimed: set[str] = set()
    groups: list[Group] = []
    misfits: dict[str, tuple[int, str]] = {}
    spoiled: list[set[str]] = []
    for layout in candidates:
        for prefix in _prefixes(names, layout.anchor):
            leaves = {leaf: names[prefix + leaf] for leaf in layout.shapes if prefix + leaf in names}
            anchor, stored = leaves[layout.anchor], set(leaves.values())
            if anchor in claimed or any(prefix + leaf in names for leaf in layout.without) or any(stored < whole for whole in spoiled):
                continue
            shapes = {leaf: store.shapes[name] for leaf, name in leaves.items()}
            missing = [leaf for leaf in layout.required if leaf not in leaves]
            complaint = f"lacks {few(missing)}" if missing else _misfit(layout, shapes)
            if not complaint:
                claimed |= stored
                groups.append(Group(name=_name(prefix, layout), prefix=prefix, layout=layout, stored=leaves))
            elif len(leaves) > len(layout.shapes) / 2:
                near = len(missing), f"{prefix.rstrip('.') or 'the tensors'}: looks like {layout.title}, but {complaint}"
                misfits[anchor] = min(misfits.get(anchor, near), near, key=itemgetter(0))
            if complaint and not missing:  # so that a kernel whose D does not fit is not taken for one without its block
                spoiled.append(stored)
    misfits = _without_anchor(names, candidates, claimed) | misfits
    groups.sort(key=lambda group: _depth(group.prefix))
    return groups, [*problems, *(near_miss(text) for anchor, (_, text) in misfits.items() if anchor not in claimed)]


def _beside(name: str) -> tuple[str, ...]:
    """Return where int8 of bitsandbytes keeps its scale."""
    stem = name.removesuffix("weight")
    return (f"{stem}SCB",) if stem != name else ()


def _without_anchor(names: Mapping[str, str], candidates: Sequence[Layout], claimed: set[str]) -> dict[str, tuple[int, str]]:
    """Return what would be a layer if it had the leaf by which its layout is found: most of the other leaves are there."""
    by_last: dict[str, list[str]] = {}
    for name in names:
        by_last.setdefault(name.rpartition(".")[2], []).append(name)
    found: dict[str, tuple[int, str]] = {}
    for layout in candidates:
        second = next((leaf for leaf in layout.required if leaf != layout.anchor), None)
        for name in by_last.get(second.rpartition(".")[2], ()) if second else ():
            prefix = name.removesuffix(second or "")
            if prefix + (second or "") != name or (prefix and not prefix.endswith(".")) or prefix + layout.anchor in names:
                continue
            there = [names[prefix + leaf] for leaf in layout.required if prefix + leaf in names]
            missing = len(layout.required) - len(there)
            if missing == 1 and len(there) > 3 and not claimed & set(there):
                found.setdefault(
                    there[0], (1, f"{prefix.rstrip('.') or 'the tensors'}: looks like {layout.title}, but lacks {layout.anchor!r}")
                )
    return found


def nothing_found(store: TensorStore, problems: Sequence[str]) -> CheckpointError:
    """Return the error for a checkpoint without a recurrent layer."""
    near = "; ".join(problems)
    return CheckpointError(
        f"no recurrent layer was recognized among {few(store.shapes)}{'; ' + near if near else ''}; for a module with names of its own "
        "pass a layout, see ssm_analysis.families.shared.layouts",
        path=store.source,
    )


def _dotted(store: TensorStore) -> tuple[dict[str, str], list[str]]:
    """Return stored names by the same names with dots between all levels."""
    names: dict[str, str] = {}
    problems = []
    training_state = any("params" in stored.replace("/", ".").split(".") for stored in store.shapes)
    for stored in store.shapes:
        dotted = stored.replace("/", ".")
        if training_state and OPTIMIZER & set(dotted.split(".")):
            continue  # the moments of an optimizer have the names and shapes of the weights
        if dotted in names:
            problems.append(f"{stored!r} and {names[dotted]!r} are one name; the first is read")
        else:
            names[dotted] = stored
    return names, problems


def _prefixes(names: Mapping[str, str], anchor: str) -> list[str]:
    """Return what stands in front of the anchor, with its dot; empty where the anchor is the whole name."""
    return [name[: len(name) - len(anchor)] for name in names if name == anchor or name.endswith("." + anchor)]


def _misfit(layout: Layout, shapes: Mapping[str, Shape]) -> str:
    """Return why these shapes are not those of the layout; empty where they are."""
    try:
        check_params(layout.family, {leaf: _Shaped(shape) for leaf, shape in shapes.items()}, layout.shapes, optional=layout.optional)
    except ValueError as error:
        return str(error)
    if not layout.where(shapes):
        return f"its shapes do not fit each other: {dict(shapes)}"
    return ""


def _name(prefix: str, layout: Layout) -> str:
    """Return the prefix without the last dot and without a leading "params", and the module that the recurrence's own leaves share."""
    whole = (prefix + layout.own_module).strip(".")
    return re.sub(r"^params(\.|$)", "", whole)


def _depth(prefix: str) -> list[tuple[int, int | str]]:
    """Return a key that sorts layers.2 before layers.10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", prefix)]
