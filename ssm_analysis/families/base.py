"""Layers and families: what one layer of a model is, what a family provides, and the families that are known."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pkgutil import iter_modules
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.families.shared.facts import Facts
from ssm_analysis.families.shared.layouts import Layout
from ssm_analysis.systems import LTI, DiagonalLTV
from ssm_analysis.xp import Array, all_finite, array_namespace, freeze, is_array, is_complex, is_floating

if TYPE_CHECKING:
    from ssm_analysis.certificates.certificate import Certificate
    from ssm_analysis.certificates.question import Inquiry


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


@dataclass(frozen=True, eq=False, kw_only=True)
class TimeInvariantFamily:
    """A model class whose layer is one linear time-invariant system, or one per channel: S4, S4D, S5, LRU.

    Parameters
    ----------
    name
        The key in ``FAMILIES``.
    title
        The name in the literature.
    paper
        The paper that introduced it.
    features
        Its row of Table 1.
    options
        A frozen dataclass of what the tensors do not tell, with the defaults of the original code. It checks its values.
    init
        ``init(d_model=..., seed=..., ...)`` returns a fresh layer.
    system
        ``system(params, options)`` returns the system, in the array library of the parameters and differentiable.
    core_input
        ``core_input(params, u, options)`` returns the input of the layer in the shape that ``simulate`` takes.
    reference
        ``reference(params, u, options)`` runs the recurrence step by step from the equation of the paper, in numpy.
    spectrum
        ``spectrum(params, options)`` returns the eigenvalues of the discrete A, as exactly as they can be known.
    initial_spectrum
        The same of the matrix that the initialization means; it differs from ``spectrum`` where rounding the parameters moves
        eigenvalues (S4).
    layouts
        How checkpoints store a layer, the most particular first.
    facts
        What the doctor, `verify` and the pictures ask about the parameters.
    certificate
        ``certificate(inquiry)`` yields the certificates of a layer; None: the layer is certified through its system.
    """

    name: str
    title: str
    paper: str
    features: Features
    options: type
    init: "Callable[..., Layer]"
    system: Callable[..., LTI]
    core_input: Callable[..., Inexact[Array, "l *batch m"]]
    reference: Callable[..., Any]
    spectrum: Callable[..., Spectrum]
    initial_spectrum: Callable[..., Spectrum]
    layouts: tuple[Layout, ...] = ()
    facts: Facts
    certificate: "Callable[[Inquiry], Iterator[Certificate]] | None" = None


@dataclass(frozen=True, eq=False, kw_only=True)
class SelectiveFamily:
    """A model class whose matrices depend on the input, so that a layer is a time-varying system along each input: S6, RG-LRU.

    Parameters
    ----------
    name, title, paper, features, options, init, core_input, reference, layouts, facts
        As in `TimeInvariantFamily`.
    along
        ``along(params, u, options, channels=None)`` returns the system along ``u``, differentiable; of the first batch axis a slice.
    windows
        ``windows(params, u, options, size=...)`` yields the same, ``size`` entries of the first batch axis at a time, in order.
    at_bias
        ``at_bias(params, options)`` returns the log-poles with the biases alone, as if the maps that read the input gave 0.
    certificate
        ``certificate(inquiry)`` yields the certificates of a layer; None: no theorem covers the family, and all is undecided.
    """

    name: str
    title: str
    paper: str
    features: Features
    options: type
    init: "Callable[..., Layer]"
    along: Callable[..., DiagonalLTV]
    windows: Callable[..., Iterator[DiagonalLTV]]
    core_input: Callable[..., Inexact[Array, "l *batch m"]]
    reference: Callable[..., Any]
    at_bias: Callable[..., Inexact[Array, "*batch n"]]
    layouts: tuple[Layout, ...] = ()
    facts: Facts
    certificate: "Callable[[Inquiry], Iterator[Certificate]] | None" = None


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
        _ = self.options  # raises a ValueError for an option, or a value of one, that the family does not have
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
        """Return what travels to other processes: all but the views that keep the mappings from being changed."""
        return _rebuilt, (self.family, self.name, dict(self.params), dict(self.assumptions), self.notes)

    @property
    def time_varying(self) -> bool:
        """Whether the matrices depend on the input."""
        return hasattr(self._definition(), "along")

    @property
    def options(self) -> Any:
        """The options of the family, as its frozen dataclass: the assumptions that are not folded into the parameters."""
        values = {name: assumption.value for name, assumption in self.assumptions.items() if not assumption.folded}
        family = self._definition()
        unknown = [name for name in values if name not in {field.name for field in fields(family.options)}]
        if unknown:
            has = ", ".join(field.name for field in fields(family.options)) or "none"
            raise ValueError(f"family {self.family!r} has no option {', '.join(map(repr, unknown))}; its options are {has}")
        return family.options(**values)

    def _call(self, function: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """Call a function of the family with the parameters, what else it takes, and the options."""
        return function(self.params, *arguments, self.options, **more)

    def system(self) -> LTI:
        """Return the time-invariant system of this layer, one per channel for single-input families."""
        return self._call(self._time_invariant("system()").system)

    def spectrum(self) -> Spectrum:
        """Return the eigenvalues of the discrete A as exactly as they can be known, and how well conditioned they are."""
        return self._call(self._time_invariant("spectrum()").spectrum)

    def along(self, u: Float[Array, "l d_model"], *, channels: slice | None = None) -> DiagonalLTV:
        """Return the time-varying system of this layer along ``u``, what enters the layer from the first token of one document.

        With ``channels`` only those of the first batch axis: inner channels of Mamba, heads of Mamba-2, channels of an RG-LRU.
        """
        return self._call(self._selective(u).along, u, channels=channels)

    def windows(self, u: Float[Array, "l d_model"], *, channels: int) -> Iterator[DiagonalLTV]:
        """Yield ``along(u)`` in order, so many ``channels`` at a time (of the first batch axis): memory stays bounded by the window.

        What the channels share is computed once: ``[lyapunov_exponents(sys) for sys in layer.windows(u, channels=128)]``.
        """
        family = self._selective(u)
        if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
            raise ValueError(f"channels must be a positive integer, the size of a window, got {channels!r}")
        return self._call(family.windows, u, size=channels)

    def core_input(self, u: Float[Array, "l d_model"]) -> Inexact[Array, "l *batch m"]:
        """Return the signal that drives the recurrence when ``u`` enters the layer, in the shape that ``simulate`` takes."""
        self._check_input(u)
        return self._call(self._definition().core_input, u)

    def reference(self, u: Float[Array, "l d_model"]) -> Array:
        """Return the output of the original recurrence, feed-through included, step by step in numpy: slow and obvious."""
        self._check_input(u)
        return self._call(self._definition().reference, u)

    def at_bias(self) -> Inexact[Array, "*batch n"]:
        """Return the log-poles of a selective layer with its biases alone, as if the maps that read the input gave 0."""
        family = self._definition()
        if not isinstance(family, SelectiveFamily):
            raise ValueError(f"a layer of family {self.family!r} does not depend on its input; use layer.spectrum()")
        return self._call(family.at_bias)

    def initial_spectrum(self) -> Spectrum:
        """Return the eigenvalues of the matrix that a fresh layer means; see `spectrum` for the one that its parameters store."""
        return self._call(self._time_invariant("initial_spectrum()").initial_spectrum)

    def map(self, f: Callable[[Array], Array]) -> "Layer":
        """Return the same layer with ``f`` applied to every parameter: ``layer.map(torch.tensor)``."""
        return replace(self, params={name: f(x) for name, x in self.params.items()})

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(x.shape)}" for name, x in self.params.items())
        options = "".join(f", {name}={a.value!r}" for name, a in self.assumptions.items() if not a.folded)
        return f"Layer(family={self.family!r}, name={self.name!r}, {shapes}{options})"

    def _definition(self) -> Family:
        return FAMILIES[self.family]

    def _time_invariant(self, method: str) -> TimeInvariantFamily:
        family = self._definition()
        if self.time_varying:
            raise ValueError(
                f"a layer of family {self.family!r} depends on its input, so it has no {method} of its own; "
                "use layer.along(u) with the input u, (L, d_model), and .frozen(at) for one moment of it"
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
    """Return a fresh layer whose options were chosen at its initialization."""
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
    """Import every folder of ``ssm_analysis.families`` and keep those whose ``__init__`` defines ``FAMILY``."""
    package = import_module(__name__.rpartition(".")[0])
    modules = [import_module(f"{package.__name__}.{folder.name}") for folder in iter_modules(package.__path__) if folder.ispkg]
    found: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}
    rank = {name: i for i, name in enumerate(PAPER)}
    return {name: found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))}


FAMILIES = Families()
