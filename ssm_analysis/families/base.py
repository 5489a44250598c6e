"""Layers and families: what one layer of a model is, what a family provides, and the families that are known."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import MappingProxyType
from typing import Any, TypeAlias

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.families.shared.layouts import Layout
from ssm_analysis.systems import LTI, DiagonalLTV
from ssm_analysis.xp import Array, all_finite, array_namespace, freeze, is_array, is_complex, is_floating

Params: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Features:
    """A row of Table 1 of arXiv 2403.16899, as read from the official implementations."""

    dynamics: str
    channels: str
    parametrization: str
    discretization: str
    structure: str
    initialization: str
    implementation: str


@dataclass(frozen=True, kw_only=True)
class TimeInvariantFamily:
    """S4, S4D, S5, LRU: a layer is one linear time-invariant system, or one per channel."""

    name: str
    """The key in ``FAMILIES``."""
    title: str
    """The name in the literature."""
    paper: str
    """The paper that introduced it."""
    features: Features
    init: "Callable[..., Layer]"
    """A fresh layer: ``init(d_model=..., seed=..., ...)``."""
    system: Callable[..., LTI]
    """``system(params, **options)``, in the array library of the parameters and differentiable."""
    core_input: Callable[..., Inexact[Array, "l *batch m"]]
    """``core_input(params, u, **options)``: the input of the layer in the shape that ``simulate`` takes."""
    reference: Callable[..., Any]
    """``reference(params, u, **options)``: the recurrence step by step from the equation of the paper, in numpy."""
    spectrum: Callable[..., Spectrum]
    """``spectrum(params, **options)``: eigenvalues of the discrete A, as exactly as they can be known."""
    initial_spectrum: Callable[..., Spectrum]
    """The same of the matrix that the initialization means; it differs from ``spectrum`` where rounding the parameters moves
    eigenvalues (S4)."""
    layouts: tuple[Layout, ...] = ()
    """How checkpoints store a layer, the most particular first."""


@dataclass(frozen=True, kw_only=True)
class SelectiveFamily:
    """S6, RG-LRU: the matrices depend on the input, so a layer is a time-varying system along each input."""

    name: str
    title: str
    paper: str
    features: Features
    init: "Callable[..., Layer]"
    along: Callable[..., DiagonalLTV]
    """``along(params, u, channels=None, **options)``: the system along ``u``, differentiable; of the first batch axis a slice."""
    windows: Callable[..., Iterator[DiagonalLTV]]
    """``windows(params, u, size=..., **options)``: the same, ``size`` entries of the first batch axis at a time, in order."""
    core_input: Callable[..., Inexact[Array, "l *batch m"]]
    """``core_input(params, u, **options)``: the signal that drives the recurrence along ``u``."""
    reference: Callable[..., Any]
    """``reference(params, u, **options)``: the recurrence step by step from the equation of the paper, in numpy."""
    at_bias: Callable[..., Inexact[Array, "*batch n"]]
    """``at_bias(params, **options)``: the log-poles with the biases alone, as if the maps that read the input gave 0."""
    layouts: tuple[Layout, ...] = ()
    """How checkpoints store a layer, the most particular first."""


Family: TypeAlias = TimeInvariantFamily | SelectiveFamily


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """An option that the weights do not store, and who said so."""

    value: Any
    source: str
    """``caller``, ``file`` (hyper-parameters, config or live module), ``weights`` (their shapes and values), ``original default`` or
    ``initialization``."""
    folded: bool = False
    """Whether the parameters contain it already, so that it is no option of the family: a length that was divided out of C."""
    note: str = ""
    """What contradicts it, in words."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """Parameters of one layer under the names of the original implementation.

    Parameters
    ----------
    family
        Key in ``FAMILIES``.
    name
        Where the layer stands in its model; empty for a bare layer.
    params
        Arrays of one library by name, with the names and shapes that the file of the family documents.
    assumptions
        Options of the family that the parameters do not tell (step transform, discretization, ...).
    notes
        What was found or had to be made up where the layer came from, in words.

    Raises
    ------
    KeyError
        If the family is unknown.
    TypeError
        If a parameter is not an array, or the arrays come from several libraries.
    ValueError
        If a parameter is NaN or infinite.
    """

    family: str
    name: str = ""
    params: Mapping[str, Array]
    assumptions: Mapping[str, Assumption] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._definition()
        for name, x in self.params.items():
            if not is_array(x):
                raise TypeError(f"parameter {name!r} must be an array, got {type(x).__name__}")
        try:
            array_namespace(*self.params.values())
        except TypeError as error:
            kinds = {name: type(x).__name__ for name, x in self.params.items()}
            raise TypeError(f"the parameters of a layer must be arrays of one library, got {kinds}") from error
        for name, x in self.params.items():
            if not all_finite(x):
                raise ValueError(f"parameter {name!r} of layer {self.name!r} must be finite, got NaN or infinite entries")
        object.__setattr__(self, "params", MappingProxyType({name: freeze(x) for name, x in self.params.items()}))
        object.__setattr__(self, "assumptions", MappingProxyType(dict(self.assumptions)))

    def __reduce__(self) -> tuple[Any, ...]:
        """A layer travels to other processes; the views that keep its mappings from being changed do not."""
        return _rebuilt, (self.family, self.name, dict(self.params), dict(self.assumptions), self.notes)

    @property
    def time_varying(self) -> bool:
        """Whether the matrices depend on the input."""
        return hasattr(self._definition(), "along")

    @property
    def options(self) -> dict[str, Any]:
        """The values of the assumptions that are not folded into the parameters: keyword arguments of the functions of the family."""
        return {name: assumption.value for name, assumption in self.assumptions.items() if not assumption.folded}

    def system(self) -> LTI:
        """The time-invariant system of this layer, one per channel for single-input families."""
        return self._time_invariant("system()").system(self.params, **self.options)

    def spectrum(self) -> Spectrum:
        """Eigenvalues of the discrete A as exactly as they can be known, and how well conditioned they are."""
        return self._time_invariant("spectrum()").spectrum(self.params, **self.options)

    def along(self, u: Float[Array, "l d_model"], *, channels: slice | None = None) -> DiagonalLTV:
        """The time-varying system of this layer along ``u``, what enters the layer from the first token of one document.

        With ``channels`` only those of the first batch axis: inner channels of Mamba, heads of Mamba-2, channels of an RG-LRU.
        """
        return self._selective(u).along(self.params, u, channels=channels, **self.options)

    def windows(self, u: Float[Array, "l d_model"], *, channels: int) -> Iterator[DiagonalLTV]:
        """``along(u)`` in order, so many ``channels`` at a time (of the first batch axis): memory stays bounded by the window.

        What the channels share is computed once: ``[lyapunov_exponents(sys) for sys in layer.windows(u, channels=128)]``.
        """
        family = self._selective(u)
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise ValueError(f"channels must be a positive integer, the size of a window, got {channels!r}")
        return family.windows(self.params, u, size=channels, **self.options)

    def core_input(self, u: Float[Array, "l d_model"]) -> Inexact[Array, "l *batch m"]:
        """The signal that drives the recurrence when ``u`` enters the layer, in the shape that ``simulate`` takes."""
        self._check_input(u)
        return self._definition().core_input(self.params, u, **self.options)

    def reference(self, u: Float[Array, "l d_model"]) -> Array:
        """The output of the original recurrence, feed-through included, step by step in numpy: slow and obvious."""
        self._check_input(u)
        return self._definition().reference(self.params, u, **self.options)

    def map(self, f: Callable[[Array], Array]) -> "Layer":
        """The same layer with ``f`` applied to every parameter: ``layer.map(torch.tensor)``."""
        return replace(self, params={name: f(x) for name, x in self.params.items()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in self.params.items())
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"Layer(family={self.family!r}, name={self.name!r}, {shapes}{options})"

    def _definition(self) -> Family:
        return FAMILIES[self.family]

    def _time_invariant(self, method: str) -> TimeInvariantFamily:
        family = self._definition()
        if self.time_varying:
            raise ValueError(
                f"a layer of family {self.family!r} depends on its input, so it has no {method} of its own; "
                "use layer.along(u) with the input u, (L, d_model), and .frozen(t) for one moment of it"
            )
        return family  # type: ignore[return-value]

    def _selective(self, u: Array) -> SelectiveFamily:
        family = self._definition()
        if not self.time_varying:
            raise ValueError(f"a layer of family {self.family!r} does not depend on its input; use layer.system()")
        self._check_input(u)
        return family  # type: ignore[return-value]

    def _check_input(self, u: Array) -> None:
        if not is_array(u):
            raise TypeError(f"u must be an array of shape (L, d_model), got {type(u).__name__}")
        try:
            array_namespace(u, *self.params.values())
        except TypeError as error:
            kind = type(next(iter(self.params.values())))
            raise TypeError(f"u must be an array of the library of the parameters, {kind}, got {type(u)}") from error
        if not is_floating(u) or is_complex(u):
            raise TypeError(f"u must hold real floating-point numbers, got {u.dtype}; convert it, e.g. to float64")
        if u.ndim != 2 or u.shape[0] == 0:
            raise ValueError(f"u must have shape (L, d_model): one document from its first token, got {tuple(u.shape)}")


def _rebuilt(family: str, name: str, params: dict[str, Array], assumptions: dict[str, Assumption], notes: tuple[str, ...]) -> Layer:
    return Layer(family=family, name=name, params=params, assumptions=assumptions, notes=notes)


def initialized(family: str, params: Mapping[str, Array], **options: Any) -> Layer:
    """A fresh layer whose options were chosen at its initialization."""
    return Layer(family=family, params=params, assumptions={k: Assumption(value=v, source="initialization") for k, v in options.items()})


PAPER = ("s4", "s4d", "s5", "lru", "s6", "rg_lru")
"""The families of Table 1 of arXiv 2403.16899, in its order; others follow in alphabetical order."""


class Families(MutableMapping[str, Family]):
    """Families by name: the folders beside this file, found at the first look, and those that are assigned.

    ``FAMILIES["mine"] = FAMILY`` makes a family of one's own known; a KeyError lists the names that are.
    """

    def __init__(self) -> None:
        self._by_name: dict[str, Family] = {}
        self._discovered = False

    def __getitem__(self, name: str) -> Family:
        if name not in self._all():
            raise KeyError(f"unknown family {name!r}; there are {', '.join(self)}")
        return self._all()[name]

    def __setitem__(self, name: str, family: Family) -> None:
        self._all()[name] = family

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _all(self) -> dict[str, Family]:
        if not self._discovered:
            self._by_name |= _discover()
            self._discovered = True
        return self._by_name


def _discover() -> dict[str, Family]:
    """Import every folder beside this file whose ``__init__`` defines ``FAMILY``."""
    package = __name__.rpartition(".")[0]
    modules = [import_module(f"{package}.{folder.name}") for folder in iter_modules([str(Path(__file__).parent)]) if folder.ispkg]
    found: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}
    rank = {name: i for i, name in enumerate(PAPER)}
    return {name: found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))}


FAMILIES = Families()
