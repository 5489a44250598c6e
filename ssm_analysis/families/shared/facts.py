"""What a family tells about its parameters to those who read a layer: the doctor, `verify`, the pictures, the studies.

Every field has a default that says nothing, so that a new family answers what it can and is inspected all the same.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ssm_analysis.xp import Array

Params: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class FreshTensor:
    """A parameter that equals a fresh initialization."""

    name: str
    """The parameter."""
    words: str
    """What it equals: "log(1..d_state) in every channel, the initialization of Mamba"."""
    suspicious: bool
    """Whether training moves it in every published model, so that something has overwritten it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DeadUnits:
    """Channels or states that pass nothing on, whatever enters."""

    dead: np.ndarray
    """True where dead, one entry for each unit."""
    unit: str
    """What a unit is: "channels" or "states"."""
    why: str
    """What makes it dead: "C is 0"."""


@dataclass(frozen=True, kw_only=True)
class NormPlace:
    """Where published models keep the norm in front of a layer."""

    module: str
    """Last part of the name of the layer's module: "mixer"."""
    norm: str
    """Name of the norm beside it: "norm"."""
    adds_one: bool = False
    """Whether the file stores w for the factor 1 + w."""


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputGate:
    """The gate SiLU(weight u + bias) that multiplies the output of the scan, channel by channel."""

    weight: Array
    """(channels, d_model)."""
    bias: Array
    """(channels,)."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Slowed:
    """The parameters and options of a layer whose decay rates and steps were scaled."""

    params: Params
    options: Any


def _no_rates(params: Params, options: Any) -> Mapping[str, Array]:
    return {}


def _no_fresh_tensors(params: Params, options: Any) -> Iterable[FreshTensor]:
    return ()


def _nothing(params: Params, options: Any) -> None:
    return None


def _no_time(params: Params, options: Any) -> float:
    return 0.0


def _any_step(options: Any) -> tuple[float, float]:
    return 0.0, float("inf")


@dataclass(frozen=True, eq=False, kw_only=True)
class Facts:
    """The answers of one family. Functions take the parameters and the family's options.

    Parameters
    ----------
    width
        Features that enter the layer: ``width(params, options)``, read from shapes alone.
    log_rates
        ``log_rates(params, options)`` returns the parameters whose exponential is a decay rate per unit of time, by name. Sizes beyond
        25 are absurd.
    steps
        Learned steps, of a selective layer those of its bias alone; None where the recurrence has none.
    step_limits
        Smallest and largest step that the layer lets pass: ``step_limits(options)``.
    turns
        Angle in rad by which each mode turns per token before sampling; beyond pi it is aliased. None where the question makes no sense.
    fresh
        Parameters that equal a fresh initialization, to the precision in which they can be stored.
    dead
        Units that pass nothing on; None where there is no such test.
    norm_places
        Where published models keep the norm in front of the layer.
    output_gate
        The gate behind the scan, where a theorem about the residual stream can use it.
    norm_behind_gate
        Name of the weight of the RMS norm that stands behind the gate and in front of the output projection; empty where there is none.
    slowed
        ``slowed(params, options, A_scale=..., delta_scale=...)`` returns the layer with its decay rates and its steps scaled, and raises
        a ValueError where a scale has nothing to act on. None for families that cannot be slowed.
    spectrum_seconds
        Estimated time of ``layer.spectrum()`` where it is long.
    """

    width: Callable[[Params, Any], int]
    log_rates: Callable[[Params, Any], Mapping[str, Array]] = _no_rates
    steps: Callable[[Params, Any], np.ndarray | None] = _nothing
    step_limits: Callable[[Any], tuple[float, float]] = _any_step
    turns: Callable[[Params, Any], np.ndarray | None] = _nothing
    fresh: Callable[[Params, Any], Iterable[FreshTensor]] = _no_fresh_tensors
    dead: Callable[[Params, Any], DeadUnits | None] = _nothing
    norm_places: tuple[NormPlace, ...] = ()
    output_gate: Callable[[Params, Any], OutputGate | None] = _nothing
    norm_behind_gate: str = ""
    slowed: Callable[..., Slowed] | None = None
    spectrum_seconds: Callable[[Params, Any], float] = _no_time
