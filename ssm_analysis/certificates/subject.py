"""What a certificate is about: a system, or a recurrent layer, of which the theorems see no more than this."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeGuard, runtime_checkable

from ssm_analysis.systems import LTI, DiagonalLTV
from ssm_analysis.systems.base import System
from ssm_analysis.xp import Array


@runtime_checkable
class AssumedOption(Protocol):
    """An option that the weights do not store, and who said so."""

    @property
    def value(self) -> Any:
        """The value."""
        ...

    @property
    def source(self) -> str:
        """Return who said so."""
        ...


@runtime_checkable
class RecurrentLayer(Protocol):
    """A layer as the theorems see it: named arrays, options, and the recurrence that it runs."""

    @property
    def family(self) -> str:
        """Key of its family."""
        ...

    @property
    def name(self) -> str:
        """Where it stands in its model; empty for a bare layer."""
        ...

    @property
    def params(self) -> Mapping[str, Array]:
        """Arrays by name."""
        ...

    @property
    def options(self) -> Any:
        """The frozen dataclass of its family's options."""
        ...

    @property
    def assumptions(self) -> Mapping[str, AssumedOption]:
        """Options that the weights do not store."""
        ...

    def system(self) -> LTI:
        """Return the time-invariant system of the layer, where it is one."""
        ...

    def along(self, u: Array) -> DiagonalLTV:
        """Return the time-varying system along the input ``u``, (L, d_model)."""
        ...

    def core_input(self, u: Array) -> Array:
        """Return the signal that drives the recurrence along ``u``."""
        ...

    def map(self, f: Callable[[Array], Array]) -> "RecurrentLayer":
        """Return the same layer with ``f`` applied to every parameter."""
        ...


def is_layer(subject: RecurrentLayer | LTI) -> TypeGuard[RecurrentLayer]:
    """Return whether the subject is a layer and not a system."""
    return not isinstance(subject, System)
