"""What a family file provides: a row of the paper's feature table and the functions that make and read a layer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from jaxtyping import Inexact

from ssm_analysis.analyses.spectrum import Spectrum
from ssm_analysis.families.layouts import Layout
from ssm_analysis.layer import Layer
from ssm_analysis.systems import LTI, DiagonalLTV
from ssm_analysis.xp import Array

Params: TypeAlias = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class Features:
    """A row of Table 1 of arXiv 2403.16899, as read from the official implementations."""

    dynamics: str
    channels: str
    parametrisation: str
    discretisation: str
    structure: str
    initialisation: str
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
    init: Callable[..., Layer]
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
    """The same of the matrix that the initialisation means; it differs from ``spectrum`` where rounding the parameters moves
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
    init: Callable[..., Layer]
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
