"""Checks on the parameters of a layer, and the random draws that initializations share."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Complex, Float

from ssm_analysis.xp import Array


def check_params(family: str, params: Mapping[str, Array], shapes: Mapping[str, str], *, optional: tuple[str, ...] = ()) -> dict[str, int]:
    """Sizes of the named axes, after checking that exactly the expected parameters are there and fit each other.

    ``shapes`` names the axes of each parameter, e.g. ``{"A_log": "d_inner d_state", "in_proj.weight": "2*d_inner d_model"}``:
    a name, a number, or a sum of names with factors whose names stand alone elsewhere.

    Raises
    ------
    KeyError
        If a parameter is missing or not known.
    ValueError
        If a shape does not fit.
    """
    missing = [name for name in shapes if name not in params and name not in optional]
    unknown = [name for name in params if name not in shapes]
    if missing or unknown:
        complaint = "; ".join(f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("not known", unknown)) if names)
        raise KeyError(f"parameters of family {family!r}: {complaint}; wanted {', '.join(shapes)}")
    sizes: dict[str, int] = {}
    for name, x in params.items():
        axes = shapes[name].split()
        if x.ndim != len(axes):  # before its axes tell sizes: the blame would fall on another
            raise ValueError(f"parameter {name!r} of family {family!r} must have shape ({', '.join(axes)}), got {tuple(x.shape)}")
        for axis, size in zip(axes, x.shape, strict=True):
            if axis.isidentifier():
                sizes.setdefault(axis, size)
    for name, x in params.items():
        axes = shapes[name].split()
        if tuple(x.shape) != tuple(_size(axis, sizes) for axis in axes):
            known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            raise ValueError(
                f"parameter {name!r} of family {family!r} must have shape ({', '.join(axes)}), got {tuple(x.shape)} with {known}"
            )
    return sizes


def _size(axis: str, sizes: Mapping[str, int]) -> int | None:
    """The value of e.g. ``dt_rank+2*d_state``; None where a name is not known."""
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
    """Raise a ValueError unless ``u`` is one document of that many features, (L, width)."""
    if u.ndim != 2 or u.shape[0] == 0 or u.shape[1] != width:
        raise ValueError(f"u must have shape (L, {width}), one document from its first token, got {tuple(u.shape)}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError that lists the choices unless ``value`` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(repr(c) for c in choices)}; got {value!r}")


def generator(seed: int) -> np.random.Generator:
    """numpy's default generator; a ValueError unless ``seed`` is an integer from 0 on."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed must be a non-negative integer, got {seed!r}")
    return np.random.default_rng(seed)


def log_uniform(rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """log of numbers that are log-uniform on [low, high]."""
    return rng.uniform(np.log(low), np.log(high), shape)


def complex_normal(rng: np.random.Generator, shape: tuple[int, ...], variance: float = 1.0) -> Complex[np.ndarray, "..."]:
    """Circular complex normal numbers, E|x|^2 = variance."""
    return np.sqrt(variance / 2) * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
