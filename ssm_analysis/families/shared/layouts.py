"""How a checkpoint stores a layer: the names and shapes of its tensors, and what makes the parameters of a family of them.

Every family lists its layouts, ``FAMILY.layouts``. A layout of one's own is passed to ``ssm.load(..., layouts=[...])``.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np

Tensors: TypeAlias = Mapping[str, np.ndarray]
"""What is stored, by leaf, lifted to 64 bits."""
Options: TypeAlias = Mapping[str, Any]
REVERSE = ":reverse"
"""Ends the name of the half of a bidirectional layer that reads the signal from its end."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """One layer of what a layout decodes; bidirectional ones have two."""

    params: Tensors
    """Under the names of the family."""
    options: Options = field(default_factory=dict)
    """Options of the family that the tensors themselves tell; they overrule those that were asked for."""
    suffix: str = ""
    """Empty, or ``REVERSE``."""
    notes: tuple[str, ...] = ()
    """What was found and what had to be made up, in words."""


Decode: TypeAlias = Callable[[Tensors, Options], Sequence[Part]]


def renamed(tensors: Tensors, options: Options) -> Sequence[Part]:
    """Decode tensors that are the parameters of the family, under their own names."""
    return [Part(params=tensors)]


def nothing(config: Mapping[str, Any]) -> Options:
    """Default: read no options from the configuration beyond those listed by name."""
    return {}


def section_of(config: Mapping[str, Any], kinds: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the innermost section of a configuration whose ``model_type`` begins with one of ``kinds``, or the whole configuration.

    Models that wrap another one (multimodal ones do) keep the configuration of the inner one below a key of their own.
    """
    found, inner = config, [part for part in config.values() if isinstance(part, Mapping)]
    while inner:
        part = inner.pop()
        if str(part.get("model_type", "")).startswith(kinds):
            found = part
        inner += [below for below in part.values() if isinstance(below, Mapping)]
    return found


# functions with a name, here and in `with_names`, so that a layout of one's own can be sent to other processes


def anything(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Default: accept all shapes that the axes allow."""
    return True


def _never(config: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Layout:
    """One way in which checkpoints store a layer.

    Parameters
    ----------
    title
        Whose layout, for reports: "state-spaces/s4 v4, DPLR".
    family
        Key in ``FAMILIES``.
    shapes
        The axes of each tensor by leaf, what follows the prefix of the layer: {"mixer.A_log": "d_inner d_state"}. The first
        leaf finds the layer, so it must be one that nothing else has. See `check_params` for how shapes are written.
    optional
        Leaves of these that may be missing.
    alongside
        Leaves that belong to the layer and are not read.
    in_front
        Leaves that stand in front of the recurrence and are not its own, so that the name of the layer leaves them out.
    without
        Leaves whose presence means that it is another layout.
    where
        Further shapes that must hold, as a function of the shapes by leaf: {"D": (4,), ...} -> bool.
    options
        What the tensors do not tell, by the names of the original code, with the defaults of the original code.
    folded
        Those of the options that ``decode`` uses up, so that the family does not hear of them.
    asked
        Those of the options that only the caller can tell: a value in the configuration means something else.
    fixed
        What the original code hard-wires: options of the family, or ``folded`` ones for the record.
    choices
        The values that an option may have, where they are few.
    aliases
        Further names under which configurations and the caller give an option.
    configured
        What a configuration (config.json, hyper-parameters) says about the options in other ways.
    refuses
        Why a configuration rules out that the family describes the layer, in words; empty where nothing does.
    decode
        (tensors, options) -> one `Part`, or two for a bidirectional layer.
    """

    title: str
    family: str
    shapes: Mapping[str, str]
    optional: tuple[str, ...] = ()
    alongside: tuple[str, ...] = ()
    in_front: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    where: Callable[[Mapping[str, tuple[int, ...]]], bool] = anything
    options: Options = field(default_factory=dict)
    folded: frozenset[str] = frozenset()
    asked: frozenset[str] = frozenset()
    fixed: Options = field(default_factory=dict)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    configured: Callable[[Mapping[str, Any]], Options] = nothing
    refuses: Callable[[Mapping[str, Any]], str] = _never
    decode: Decode = renamed

    @property
    def anchor(self) -> str:
        """The leaf that finds the layer."""
        return next(iter(self.shapes))

    @property
    def own_module(self) -> str:
        """What the leaves of the recurrence itself have in common at their front, without the last dot: often nothing."""
        parts = [leaf.split(".")[:-1] for leaf in self.shapes if leaf not in self.in_front]
        return ".".join(names[0] for names in itertools.takewhile(lambda names: len(set(names)) == 1, zip(*parts, strict=False)))

    @property
    def required(self) -> tuple[str, ...]:
        """Leaves without which there is no layer."""
        return tuple(leaf for leaf in self.shapes if leaf not in self.optional)

    def with_names(self, names: Mapping[str, str], *, title: str = "") -> "Layout":
        """Return the same layout in a module whose tensors have other names: {"A_log": "decay.log_rate", ...}, leaf by leaf.

        Raises
        ------
        KeyError
            If this layout has no such leaf.
        """
        unknown = [leaf for leaf in names if leaf not in self.shapes]
        if unknown:
            raise KeyError(f"layout {self.title!r} has no tensor {', '.join(unknown)}; it has {', '.join(self.shapes)}")
        own = {new: old for old, new in names.items()}

        def of_others(leaves: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names.get(leaf, leaf) for leaf in leaves)

        return replace(
            self,
            title=title or f"{self.title}, renamed",
            shapes={names.get(leaf, leaf): axes for leaf, axes in self.shapes.items()},
            optional=of_others(self.optional),
            in_front=of_others(self.in_front),
            without=tuple(leaf for leaf in of_others(self.without) if leaf not in names.values()),
            where=partial(_where_renamed, self.where, own),
            decode=partial(_decode_renamed, self.decode, own),
        )


def _where_renamed(
    where: Callable[[Mapping[str, tuple[int, ...]]], bool], own: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]
) -> bool:
    return where({own.get(leaf, leaf): shape for leaf, shape in shapes.items()})


def _decode_renamed(decode: Decode, own: Mapping[str, str], tensors: Tensors, options: Options) -> Sequence[Part]:
    return decode({own.get(leaf, leaf): x for leaf, x in tensors.items()}, options)


def complex_pairs(x: np.ndarray) -> np.ndarray:
    """Turn real and imaginary parts, (..., 2), into complex numbers, (...); complex arrays stay as they are."""
    return x if np.iscomplexobj(x) else x[..., 0] + 1j * x[..., 1]


def in_two_directions(params: Tensors, options: Options, *, notes: tuple[str, ...] = ()) -> list[Part]:
    """Split a layer of single-input systems into its directions: it has two if C (channels, H, n) has twice as many channels as D.

    The second half of C reads the time-reversed signal and, in S4's code, begins one token late, so that D and the
    current token belong to the forward half alone.
    """
    C, D = params["C"], params["D"]
    if len(C) == len(D):
        return [Part(params=params, options=options, notes=notes)]
    reverse = {**params, "C": C[len(D) :], "D": np.zeros_like(D)}
    return [
        Part(params={**params, "C": C[: len(D)]}, options=options, notes=notes),
        Part(params=reverse, options={"strictly_causal": True, **options}, suffix=REVERSE, notes=notes),
    ]


def one_or_two_directions(C: str, D: str) -> Callable[[Mapping[str, tuple[int, ...]]], bool]:
    """Return a condition on shapes: C has as many channels as D, or twice as many."""
    return partial(_as_many_or_twice, C, D)


def _as_many_or_twice(C: str, D: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    return shapes[C][0] in (shapes[D][0], 2 * shapes[D][0])
