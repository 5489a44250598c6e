"""Every recurrent layer of a checkpoint or of a live module, under the names that it has there."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.live_modules import module_settings
from ssm_analysis.checkpoint.opening import open_tensors
from ssm_analysis.checkpoint.recognition import Group, nothing_found, recognize
from ssm_analysis.checkpoint.settings import check_used, settings
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few
from ssm_analysis.families.base import Assumption, Layer
from ssm_analysis.families.shared.layouts import REVERSE, Layout, Part

Source = str | os.PathLike[str] | Mapping[Any, Any] | Any


class Layers(dict[str, Layer]):
    """Layers by name, in depth order. A name that is not there stands for the only layer below it: ``layers["model.layers.3"]``."""

    problems: tuple[str, ...] = ()
    """What is missing in the checkpoint, was left out, or looks like a layer and is none, in words."""

    def __missing__(self, name: str) -> Layer:
        below = [key for key in self if key.startswith(f"{name}.") or name == ""]
        forward = [key for key in below if not key.endswith(REVERSE)]
        if len(forward) == 1:
            return self[forward[0]]
        near = below or get_close_matches(name, self, n=3) or list(self)[:5]
        raise KeyError(f"no layer {name!r}; {'below it are' if below else 'near it are'} {', '.join(map(repr, near))} of {len(self)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundLayers:
    """The layers of an open checkpoint, of which none is read yet. A context manager."""

    store: TensorStore
    groups: Sequence[Group]
    problems: tuple[str, ...]
    """What is missing, was left out or looks like a layer and is none, in words."""
    assume: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Given by the caller; stands before what the files say."""
    module: Any = None

    def __enter__(self) -> "FoundLayers":
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()

    def assumptions(self, group: Group) -> dict[str, Assumption]:
        """The options of one layer, each with who said so."""
        config, who = (self.config, "caller") if self.config else (self.told(group), "file")
        refusal = group.layout.refuses(config)
        if refusal:
            raise ValueError(refusal)
        return settings(group.layout, self.assume, config, config_from=who)

    def told(self, group: Group) -> Mapping[str, Any]:
        """What files or the live module say beside the weights of one layer."""
        of_module = module_settings(self.module, group.prefix.rstrip(".")) if self.module is not None else {}
        return {**self.store.hyper_parameters, **self.store.config, **of_module}

    def read(self, group: Group) -> list[Layer]:
        """One layer, or the two directions of a bidirectional one.

        Raises
        ------
        CheckpointError
            If a tensor is damaged, or the layer cannot be understood; says which.
        """
        try:
            assumptions = self.assumptions(group)
            values = {name: assumption.value for name, assumption in assumptions.items()}
            return [_layer(group, part, assumptions) for part in group.layout.decode(group.read(self.store), values)]  # type: ignore[arg-type]
        except CheckpointError:
            raise
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            words = error.args[0] if error.args and isinstance(error.args[0], str) else repr(error)
            raise CheckpointError(f"layer {group.name!r} ({group.layout.title}): {words}", path=self.store.source) from error

    def __iter__(self) -> Iterator[Layer]:
        for group in self.groups:
            yield from self.read(group)


def load(
    source: Source,
    *,
    family: str | None = None,
    assume: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    device: Any = None,
    layouts: Sequence[Layout] = (),
) -> dict[str, Layer]:
    """Every recurrent layer of a checkpoint or of a live module, exported to 64 bits.

    Parameters
    ----------
    source
        A local file or folder, a state dict or tree of arrays, or a live torch.nn.Module; see `open_tensors`.
    family
        Key in ``FAMILIES``: only layers of this one are looked for.
    assume
        What weights do not store, under the option names of the original code: ``{"dt_transform": "softplus"}``. The caller wins
        over the files; what was assumed, and from where, is in ``layer.assumptions``.
    config
        In the place of the configuration that lies with the weights.
    device
        Torch device: the parameters become torch tensors there.
    layouts
        Layouts of one's own, which are tried before those of the families.

    Returns
    -------
    dict
        Layers by name, in depth order. The name is the common prefix of the tensors of the recurrence; the reverse direction of a
        bidirectional layer ends in ":reverse". ``.problems`` says what is missing; a warning tells if that may be a layer.

    Raises
    ------
    CheckpointError
        If the source cannot be read, holds no recurrent layer, or one of them is damaged or needs an option that nothing tells.
    ValueError
        If ``assume`` has a name that no layer found can use, or a value that the option cannot have.

    Examples
    --------
    >>> import ssm_analysis as ssm
    >>> layer = ssm.FAMILIES["lru"].init(d_model=4, d_state=8)
    >>> layers = ssm.load({f"encoder/layers_0/seq/{name}": x for name, x in layer.params.items()})
    >>> list(layers), layers["encoder.layers_0.seq"].system().nstates
    (['encoder.layers_0.seq'], 8)
    """
    with find_layers(source, family=family, assume=assume, config=config, layouts=layouts) as found:
        layers = Layers((layer.name, layer if device is None else layer.map(_to_torch(device))) for layer in found)
        layers.problems = found.problems
    lost = [problem for problem in layers.problems if "looks like" in problem or "missing" in problem]
    if lost:  # the layers that are whole are worth having, but nobody should think that they are all
        warnings.warn(f"not every layer could be loaded: {'; '.join(lost)}", stacklevel=2)
    return layers


def find_layers(
    source: Source,
    *,
    family: str | None = None,
    assume: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    layouts: Sequence[Layout] = (),
) -> FoundLayers:
    """The layers of a checkpoint, opened and not read; `load` reads them all, ``FoundLayers.read`` one.

    Raises
    ------
    CheckpointError, ValueError
        As `load`, but for what only reading shows.
    """
    store = open_tensors(source)
    try:
        groups, misfits = recognize(store, family=family, layouts=layouts)
        if not groups:
            raise nothing_found(store, [*misfits, *store.problems])
        check_used(assume or {}, [group.layout for group in groups])
    except BaseException:
        store.close()
        raise
    return FoundLayers(
        store=store,
        groups=groups,
        problems=(*store.problems, *misfits),
        assume=dict(assume or {}),
        config=dict(config or {}),
        module=source if is_module(source) else None,
    )


def load_one(source: Source, name: str, **how: Any) -> Layer:
    """One layer by its name, or by the beginning of a name that no other layer shares; nothing else is read. Keywords as `load`."""
    with find_layers(source, **how) as found:
        direct = name.removesuffix(REVERSE)
        groups = [group for group in found.groups if group.name == direct] or [
            group for group in found.groups if group.name.startswith(f"{direct}.")
        ]
        if len(groups) != 1:
            which = "none" if not groups else f"each of {len(groups)}"
            raise KeyError("; ".join([f"layer {name!r} is {which} of {few(g.name for g in found.groups)}", *found.problems]))
        layers = found.read(groups[0])
    matching = [layer for layer in layers if layer.name.endswith(REVERSE) == (REVERSE in name)]
    if not matching:
        raise KeyError(f"layer {name!r}: {layers[0].name!r} has one direction only")
    return matching[0]


def _layer(group: Group, part: Part, assumptions: Mapping[str, Assumption]) -> Layer:
    merged = dict(assumptions)
    for name, value in part.options.items():
        asked = assumptions.get(name)
        folded = (
            f"{asked.value!r} from the {asked.source} is folded into the parameters" if asked and asked.value not in (None, value) else ""
        )
        merged[name] = Assumption(value=value, source="weights", note=folded)
    return Layer(family=group.layout.family, name=group.name + part.suffix, params=part.params, assumptions=merged, notes=part.notes)


def _to_torch(device: Any) -> Callable[[Any], Any]:
    import torch

    return lambda x: torch.tensor(x, device=device)
