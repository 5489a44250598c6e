"""What all systems share: checked, frozen fields; a batch of systems is indexed like an array."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Real
from types import EllipsisType, ModuleType
from typing import Any, ClassVar, TypeVar

from ssm_analysis.xp import (
    Array,
    all_finite,
    array_namespace,
    broadcast_shapes,
    device,
    double,
    freeze,
    is_array,
    is_floating,
)

S = TypeVar("S", bound="System")


class System(ABC):
    """A batch of linear systems. Each final class is a frozen dataclass of its arrays and ``dt``."""

    AXES: ClassVar[dict[str, str]]
    """The system axes of each array field, one letter an axis: states n, inputs m, outputs p."""
    TIME_AXES: ClassVar[int] = 0
    """How many axes stand in front of the batch axes: 1 for time-varying systems."""
    HINTS: ClassVar[dict[str, str]] = {}
    """What to do about a field with infinite or NaN entries, where there is something to do."""

    B: Array
    C: Array
    D: Array
    dt: float

    def __post_init__(self) -> None:
        arrays = {name: getattr(self, name) for name in self.AXES}
        check_arrays(arrays)
        _check_system_axes(arrays, self.AXES)
        shape = _common_batch(arrays, self.AXES)
        if len(shape) < self.TIME_AXES or 0 in shape[: self.TIME_AXES]:
            raise ValueError(f"a {type(self).__name__} has time as axis 0, at least one step of it, got the time and batch axes {shape}")
        for name, x in arrays.items():
            self._check_values(name, x)
            axes = x.shape[x.ndim - len(self.AXES[name]) :]
            object.__setattr__(self, name, freeze(array_namespace(x).broadcast_to(x, (*shape, *axes))))
        object.__setattr__(self, "dt", _checked_dt(self.dt))

    def _check_values(self, name: str, x: Array) -> None:
        if not all_finite(x):
            raise ValueError(f"{name} must be finite, got NaN or infinite entries{self.HINTS.get(name, '')}")

    @property
    def xp(self) -> ModuleType:
        """The array library of the fields."""
        return array_namespace(self.B)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Shape of the batch; () for a single system. Time is not part of it."""
        return tuple(self.B.shape[self.TIME_AXES : -2])

    @property
    def nstates(self) -> int:
        """Number of states n."""
        return self.B.shape[-2]

    @property
    def ninputs(self) -> int:
        """Number of inputs m."""
        return self.B.shape[-1]

    @property
    def noutputs(self) -> int:
        """Number of outputs p."""
        return self.C.shape[-2]

    @abstractmethod
    def poles(self) -> Array:
        """Return the eigenvalues of A, (*batch, n); time first where the system varies with time."""

    def map(self: S, f: Callable[[Array], Array]) -> S:
        """Return the same system with ``f`` applied to every array: ``sys.map(torch.tensor)``, ``sys.map(lambda x: x.to("cuda"))``."""
        return replace(self, **{name: f(getattr(self, name)) for name in self.AXES})  # type: ignore[type-var]

    def __getitem__(self: S, index: Any) -> S:
        index = self._batch_index(index)
        if not self.TIME_AXES:
            return self.map(lambda x: x[index])
        # time waits behind the other axes: arrays as indices would draw their own axes in front of it
        xp = self.xp
        return self.map(lambda x: xp.moveaxis(xp.moveaxis(x, 0, -1)[index], -1, 0))

    def __iter__(self: S) -> Iterator[S]:
        return (self[i] for i in range(len(self)))

    def _batch_index(self, index: Any) -> tuple[Any, ...]:
        """Return the index over the batch axes with a closing ellipsis, so that it never reaches into a system."""
        parts: tuple[Any, ...] = index if isinstance(index, tuple) else (index,)
        # a list becomes an array, so that it is known whether it is a mask; torch reads nested lists in its own way
        parts = tuple(self.xp.asarray(p, device=device(self.B)) if isinstance(p, list) and p else p for p in parts)
        given = sum(_axes_taken(p) for p in parts if p is not None and not isinstance(p, EllipsisType))
        missing = len(self.batch_shape) - given
        if missing < 0:
            raise IndexError(f"the batch shape is {self.batch_shape}, got {given} indices: {index!r}")
        position = next((i for i, p in enumerate(parts) if isinstance(p, EllipsisType)), None)
        if position is not None:
            parts = (*parts[:position], *[slice(None)] * missing, *parts[position + 1 :])
        return (*parts, ...)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single system has no length; its batch shape is ()")
        return self.batch_shape[0]

    def __repr__(self) -> str:
        shape = f"batch_shape={self.batch_shape}, nstates={self.nstates}, ninputs={self.ninputs}, noutputs={self.noutputs}"
        time = f"length={self.B.shape[0]}, " if self.TIME_AXES else ""
        dtypes = " ".join(f"{name}:{str(getattr(self, name).dtype).rpartition('.')[2]}" for name in self.AXES)
        return f"{type(self).__name__}({time}{shape}, dt={self.dt:g}, {dtypes})"


def in_double(sys: S) -> S:
    """Return the same system in 64 bits, exactly; every analysis starts here."""
    return sys.map(double)


def check_system(sys: object, kinds: type | tuple[type, ...], caller: str) -> None:
    """Raise a TypeError that says what ``caller`` takes, unless ``sys`` is one of ``kinds``."""
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if isinstance(sys, kinds):
        return
    wanted = ", ".join(kind.__name__ for kind in kinds)
    hint = ""
    if hasattr(sys, "params") and hasattr(sys, "time_varying"):
        hint = "; pass layer.along(u)" if getattr(sys, "time_varying", False) else "; pass layer.system()"
        hint += " of the layer"
    elif isinstance(sys, System) and sys.TIME_AXES:
        hint = "; poles and gains of a time-varying system belong to one moment: pass sys.frozen(at)"
    raise TypeError(f"{caller} takes one of {wanted}, got {type(sys).__name__}{hint}")


def check_arrays(arrays: dict[str, Array]) -> None:
    """Raise an error that names the arguments, unless they are floating-point arrays of one library on one device."""
    kinds = {name: type(x).__module__.partition(".")[0] + "." + type(x).__name__ for name, x in arrays.items()}
    for name, x in arrays.items():
        if not is_array(x):
            raise TypeError(f"{name} must be an array (numpy, torch, ...), got {type(x).__name__}; wrap it, e.g. np.asarray(...)")
    try:
        array_namespace(*arrays.values())
    except TypeError as error:
        raise TypeError(f"{', '.join(arrays)} must be arrays of one library, got {kinds}") from error
    for name, x in arrays.items():
        if not is_floating(x):
            raise TypeError(f"{name} must hold real or complex floating-point numbers, got {x.dtype}; convert it, e.g. to float64")
    devices = {name: str(device(x)) for name, x in arrays.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"{', '.join(arrays)} must lie on one device, got {devices}")


def _axes_taken(part: Any) -> int:
    """Return how many batch axes one part of an index uses up: a mask as many as it has itself."""
    mask = is_array(part) and array_namespace(part).isdtype(part.dtype, "bool")
    return part.ndim if mask else 1


def _checked_dt(dt: object) -> float:
    if not isinstance(dt, Real) or isinstance(dt, bool):
        raise TypeError(f"dt must be a number, the sampling period (1 for one token), got {dt!r}")
    period = float(dt)
    if not (math.isfinite(period) and period > 0):
        raise ValueError(
            f"dt must be a positive sampling period, got {dt}; a continuous-time model is first "
            "discretized (see ssm_analysis.systems.discretization)"
        )
    return period


def check_library(sys: System, name: str, x: Array) -> None:
    """Raise a TypeError unless the array ``x``, the argument ``name``, is of the library of ``sys``."""
    try:
        array_namespace(sys.B, x)
    except TypeError as error:
        raise TypeError(f"{name} must be an array of the library of the system, got {type(x)} for a system of {type(sys.B)}") from error


def _check_system_axes(arrays: dict[str, Array], axes: dict[str, str]) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, x in arrays.items():
        letters = axes[name]
        wanted = f"(*batch, {', '.join(letters)})"
        if x.ndim < len(letters):
            raise ValueError(f"{name} must have shape {wanted}, got {tuple(x.shape)}")
        for letter, size in zip(letters, x.shape[x.ndim - len(letters) :], strict=True):
            known, owner = sizes.setdefault(letter, (size, name))
            if size != known:
                raise ValueError(f"{name} must have shape {wanted} with {letter} = {known} as in {owner}, got {tuple(x.shape)}")
            if size == 0:
                raise ValueError(f"{name} must have shape {wanted} with every system axis at least 1, got {tuple(x.shape)}")


def _common_batch(arrays: dict[str, Array], axes: dict[str, str]) -> tuple[int, ...]:
    shapes = {name: tuple(x.shape[: x.ndim - len(axes[name])]) for name, x in arrays.items()}
    try:
        return broadcast_shapes(*shapes.values())
    except ValueError as error:
        raise ValueError(f"the batch axes of {', '.join(arrays)} must broadcast to one shape, got {shapes}") from error
