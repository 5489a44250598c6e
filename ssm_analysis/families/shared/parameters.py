"""Checks on the parameters of a layer, and the random draws that initializations share."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Complex, Float

from ssm_analysis.xp import Array


def check_params(family: str, params: Mapping[str, Array], shapes: Mapping[str, str], *, optional: tuple[str, ...] = ()) -> dict[str, int]:
    """Check that exactly the expected parameters are there and fit each other, and return the sizes of the named axes.

    ``shapes`` names the axes of each parameter, e.g. ``{"A_log": "d_inner d_state", "in_proj.weight": "2*d_inner d_model"}``:
    each axis is a name, a number, or a sum of names with factors, whose names must be an axis of their own elsewhere.

    Raises
    ------
    KeyError
        If a parameter is missing, or the family has no parameter of that name.
    ValueError
        If the shape of a parameter does not fit.
    """
    missing = [name for name in shapes if name not in params and name not in optional]
    unknown = [name for name in params if name not in shapes]
    if missing or unknown:
        complaint = "; ".join(f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names)
        raise KeyError(f"parameters of family {family!r}: {complaint}; wanted {', '.join(shapes)}")
    sizes: dict[str, int] = {}
    for name, x in params.items():
        axes = shapes[name].split()
        if x.ndim != len(axes):  # checked before axes get their sizes, or the error would blame another parameter
            raise ValueError(f"parameter {name!r} of family {family!r} must have shape ({', '.join(axes)}), got {tuple(x.shape)}")
        for axis, size in zip(axes, x.shape, strict=True):
            if axis.isidentifier():
                sizes.setdefault(axis, size)
    for name, x in params.items():
        axes = shapes[name].split()
        if tuple(x.shape) != tuple(_size(axis, sizes) for axis in axes):
            known_sizes = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            raise ValueError(
                f"parameter {name!r} of family {family!r} must have shape ({', '.join(axes)}), got {tuple(x.shape)} with {known_sizes}"
            )
    return sizes


def _size(axis: str, sizes: Mapping[str, int]) -> int | None:
    """Evaluate an axis such as ``dt_rank+2*d_state``; return None if one of its names has no size."""
    total = 0
    for term in axis.split("+"):
        factor, _, name = term.rpartition("*")
        size = int(name) if name.isdigit() else sizes.get(name)
        if size is None:
            return None
        total += int(factor or 1) * size
    return total


def check_sizes(**sizes: int) -> None:
    """Raise a ValueError that names the first argument which is not a positive integer."""
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")


def check_interval(low_name: str, low: float, high_name: str, high: float, *, inside: tuple[float, float]) -> None:
    """Raise a ValueError unless inside[0] <= low <= high <= inside[1] and high is finite."""
    if not (inside[0] <= low <= high <= inside[1] and np.isfinite(high)):
        raise ValueError(
            f"{low_name} and {high_name} must satisfy {inside[0]} <= {low_name} <= {high_name} <= {inside[1]}, got {low} and {high}"
        )


def check_positive(name: str, value: float) -> None:
    """Raise a ValueError unless ``value`` is positive and finite."""
    if not 0 < value < np.inf:
        raise ValueError(f"{name} must be a positive number, got {value!r}")


def check_input(u: Array, width: int) -> None:
    """Raise a ValueError unless ``u`` is one document of ``width`` features, (L, width)."""
    if u.ndim != 2 or u.shape[0] == 0 or u.shape[1] != width:
        raise ValueError(f"u must have shape (L, {width}), one document from its first token, got {tuple(u.shape)}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError that lists the choices unless ``value`` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(c) for c in choices)}; got {value!r}")


def generator(seed: int) -> np.random.Generator:
    """Return numpy's default generator for ``seed``; raise a ValueError unless it is a non-negative integer."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    return np.random.default_rng(seed)


def log_uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """Draw the logarithms of numbers that are log-uniform on [low, high]."""
    return rng.uniform(np.log(low), np.log(high), shape)


def complex_normal(rng: np.random.Generator, shape: tuple[int, ...], variance: float = 1.0) -> Complex[np.ndarray, "..."]:
    """Draw circular complex normal numbers with E|x|^2 = variance."""
    return np.sqrt(variance / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
