"""Every recurrent layer of a checkpoint or of a live module, under the names that it has there."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Unpack

from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.live_modules import module_settings
from ssm_analysis.checkpoint.opening import open_tensors
from ssm_analysis.checkpoint.problems import Problem, as_problem
from ssm_analysis.checkpoint.read_options import ReadKeywords, ReadOptions
from ssm_analysis.checkpoint.recognition import Group, nothing_found, recognize
from ssm_analysis.checkpoint.settings import check_used, settings
from ssm_analysis.checkpoint.store import CheckpointError, TensorStore, few
from ssm_analysis.families.base import Assumption, Layer
from ssm_analysis.families.shared.layouts import REVERSE, Part

AS_STORED = ReadOptions()
"""Nothing said by the caller."""
Source = str | os.PathLike[str] | Mapping[Any, Any] | Any


class Layers(dict[str, Layer]):
    """Layers by name, in depth order. A name that is not there stands for the only layer below it: ``layers["model.layers.3"]``."""

    problems: tuple[Problem, ...] = ()
    """What is missing in the checkpoint, was left out, or looks like a layer and is none."""

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
    problems: tuple[Problem, ...]
    """What is missing, was left out or looks like a layer and is none."""
    assume: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    """Given by the caller; stands before what the files say."""
    module: Any = None

    def __enter__(self) -> "FoundLayers":
        return self

    def __exit__(self, *error: object) -> None:
        self.store.close()

    def assumptions(self, group: Group) -> dict[str, Assumption]:
        """Return the options of one layer, each with who said so."""
        config, who = (self.config, "caller") if self.config else (self.told(group), "file")
        refusal = group.layout.refuses(config)
        if refusal:
            raise ValueError(refusal)
        return settings(group.layout, self.assume, config, config_from=who)

    def told(self, group: Group) -> Mapping[str, Any]:
        """Return what files or the live module say beside the weights of one layer."""
        of_module = module_settings(self.module, group.prefix.rstrip(".")) if self.module is not None else {}
        return {**self.store.hyper_parameters, **self.store.config, **of_module}

    def read(self, group: Group) -> list[Layer]:
        """Return one layer, or the two directions of a bidirectional one.

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

    def read_one(self, name: str) -> Layer:
        """Read one layer by its name, or by the beginning of a name that no other layer shares; nothing else is read.

        Raises
        ------
        KeyError
            If no layer, or more than one, has the name.
        CheckpointError
            If it cannot be read.
        """
        direct = name.removesuffix(REVERSE)
        groups = [group for group in self.groups if group.name == direct] or [
            group for group in self.groups if group.name.startswith(f"{direct}.")
        ]
        if len(groups) != 1:
            which = "none" if not groups else f"each of {len(groups)}"
            raise KeyError("; ".join([f"layer {name!r} is {which} of {few(g.name for g in self.groups)}", *self.problems]))
        layers = self.read(groups[0])
        matching = [layer for layer in layers if layer.name.endswith(REVERSE) == (REVERSE in name)]
        if not matching:
            raise KeyError(f"layer {name!r}: {layers[0].name!r} has one direction only")
        return matching[0]

    def __iter__(self) -> Iterator[Layer]:
        for group in self.groups:
            yield from self.read(group)


def load(source: Source, *, device: Any = None, **read: Unpack[ReadKeywords]) -> Layers:
    """Read every recurrent layer of a checkpoint or of a live module, exported to 64 bits.

    Parameters
    ----------
    source
        A local file or folder, a state dict or tree of arrays, or a live torch.nn.Module; see `open_tensors`.
    device
        Torch device: the parameters become torch tensors there.
    **read
        ``family``, ``assume``, ``config`` and ``layouts``; see `ReadOptions`.

    Returns
    -------
    Layers
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
    with find_layers(source, ReadOptions(**read)) as checkpoint:
        layers = Layers((layer.name, layer if device is None else layer.map(_to_torch(device))) for layer in checkpoint)
        layers.problems = checkpoint.problems
    lost = [problem for problem in layers.problems if problem.may_hide_a_layer]
    if lost:  # the layers that are whole are worth having, but nobody should think that they are all
        warnings.warn(f"not every layer could be loaded: {'; '.join(lost)}", stacklevel=2)
    return layers


def find_layers(source: Source, read: ReadOptions = AS_STORED) -> FoundLayers:
    """Find the layers of a checkpoint without reading them; `load` reads them all, ``FoundLayers.read`` one.

    Raises
    ------
    CheckpointError, ValueError
        As `load`, but for what only reading shows.
    """
    store = open_tensors(source)
    try:
        groups, misfits = recognize(store, family=read.family, layouts=read.layouts)
        if not groups:
            raise nothing_found(store, [*misfits, *store.problems])
        check_used(read.assume or {}, [group.layout for group in groups])
    except BaseException:
        store.close()
        raise
    return FoundLayers(
        store=store,
        groups=groups,
        problems=tuple(as_problem(problem) for problem in (*store.problems, *misfits)),
        assume=dict(read.assume or {}),
        config=dict(read.config or {}),
        module=source if is_module(source) else None,
    )


def load_one(source: Source, name: str, read: ReadOptions = AS_STORED) -> Layer:
    """Read one layer by its name, or by the beginning of a name that no other layer shares; nothing else is read.

    Raises
    ------
    KeyError
        If no layer, or more than one, has the name.
    CheckpointError, ValueError
        As `load`.
    """
    with find_layers(source, read) as checkpoint:
        return checkpoint.read_one(name)


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
