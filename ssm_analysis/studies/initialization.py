"""The eigenvalues of the discrete A at the initialization of each family, and the memory that they allow.

The numbers behind the unit-disk figure (Figure 2 of arXiv 2403.16899). The paper does not publish its
number of states, step range, seed or sample inputs, so each panel states its own.
"""

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.analyses.memory.lemma import Memory, memory
from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.families import FAMILIES, PAPER, Family, SelectiveFamily
from ssm_analysis.families.base import Layer
from ssm_analysis.families.shared.parameters import check_sizes, generator
from ssm_analysis.xp import to_numpy

SAMPLE_LENGTH = 32
"""Tokens of each sample input; the eigenvalues of a selective layer are those at its last token."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MemorySummary:
    """The memory of all modes of a layer: extremes over the modes, shares averaged over the channels. Times are in tokens."""

    largest: float
    """Largest |lambda| of all modes."""
    margin: float
    """Smallest 1 - |lambda| of all modes."""
    time_constant: float
    """Longest time constant -1/log|lambda|, tokens."""
    half_life: float
    """Longest half-life, tokens."""
    lags: tuple[int, ...]
    """Lags at which the shares are taken, tokens."""
    modes_beyond: tuple[float, ...]
    """Share of the modes with a time constant of at least each lag, from 0 to 1."""
    residue_beyond: tuple[float, ...]
    """The same share, with each mode weighted by its residue."""
    energy_beyond: tuple[float, ...]
    """Share of the energy of the kernel beyond each lag, from 0 to 1."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """The eigenvalues that are drawn in one color, and their memory."""

    label: str
    log_poles: Inexact[np.ndarray, " k"]
    memory: MemorySummary


@dataclass(frozen=True, eq=False, kw_only=True)
class InitialEigenvalues:
    """The eigenvalues of one family at its initialization."""

    family: str
    title: str
    setting: str
    """The line under the title: number of states, ranges of the initialization, seed."""
    matrix: str
    """The matrix that the eigenvalues belong to, in words."""
    condition: float
    """Condition number of its eigenvectors, the largest over the channels."""
    series: tuple[Series, ...]


def initial_eigenvalues(
    families: Sequence[str] = PAPER, *, d_model: int = 64, d_state: int = 64, seed: int = 0
) -> list[InitialEigenvalues]:
    """Return the eigenvalues of each family at initialization, with its default options.

    Parameters
    ----------
    families
        Keys of ``FAMILIES``; by default those of the paper.
    d_model
        Number of features of each layer.
    d_state
        Number of states of each channel. Families whose ``init`` has no ``d_state``, such as RG-LRU, ignore it.
    seed
        Random seed of the parameters. The two sample inputs of selective layers use ``seed + 1`` and ``seed + 2``.

    Returns
    -------
    list[InitialEigenvalues]
        One entry for each family, in the order of ``families``. A time-invariant family has one series, a selective one
        a series for each of two sample inputs.

    Raises
    ------
    KeyError
        If a family is unknown.
    ValueError
        If a size is not a positive integer.

    References
    ----------
    Amo Alonso, Sieber, Zeilinger, arXiv 2403.16899, Figure 2.

    Examples
    --------
    >>> from ssm_analysis.studies import initial_eigenvalues
    >>> (lru,) = initial_eigenvalues(["lru"], d_model=2, d_state=4)
    >>> lru.series[0].log_poles.shape
    (4,)
    """
    check_sizes(d_model=d_model, d_state=d_state)
    return [_initial(name, d_model, d_state, seed) for name in families]


def sample_input(length: int, d_model: int, seed: int) -> Float[np.ndarray, "length d_model"]:
    """Return independent standard normal numbers, which are as large as the output of a norm layer."""
    return generator(seed).standard_normal((length, d_model))


def _initial(name: str, d_model: int, d_state: int, seed: int) -> InitialEigenvalues:
    family = FAMILIES[name]
    layer = family.init(d_model=d_model, seed=seed, **({"d_state": d_state} if "d_state" in _defaults(family) else {}))
    if isinstance(family, SelectiveFamily):
        return _selective(layer, d_model, seed)
    spectrum, sys = layer.initial_spectrum(), layer.system()
    return InitialEigenvalues(
        family=name,
        title=family.title,
        setting=_setting(family, sys.batch_shape, d_state, seed),
        matrix=spectrum.matrix,
        condition=float(np.max(spectrum.condition)),
        series=(Series(label="A at initialization", log_poles=_all_eigenvalues(spectrum), memory=summary(memory(sys, spectrum=spectrum))),),
    )


def _selective(layer: Layer, d_model: int, seed: int) -> InitialEigenvalues:
    family = FAMILIES[layer.family]
    series = []
    for which, label in ((1, "input 1"), (2, "input 2")):
        u = sample_input(SAMPLE_LENGTH, d_model, seed + which)
        moment = layer.along(u).frozen(SAMPLE_LENGTH - 1)
        series.append(Series(label=label, log_poles=moment.log_poles.reshape(-1), memory=summary(memory(moment))))
    return InitialEigenvalues(
        family=layer.family,
        title=family.title,
        setting=_setting(family, moment.batch_shape, moment.nstates, seed),
        matrix=f"A at token {SAMPLE_LENGTH} of two random inputs, N(0, 1), seeds {seed + 1} and {seed + 2}",
        condition=float(moment.nstates),  # of orthonormal eigenvectors
        series=tuple(series),
    )


def _setting(family: Family, channels: tuple[int, ...], states: int, seed: int) -> str:
    """Write the line under the title: sizes, and the ranges that the initialization draws from by default."""
    default = _defaults(family)
    parts = [f"{math.prod(channels)} channels"] if channels else []
    parts.append(f"N = {states}")
    if "dt_min" in default:
        parts.append(f"Δ in [{default['dt_min']:g}, {default['dt_max']:g}]")
    if "r_min" in default:
        parts.append(f"{default['r_min']:g} ≤ r ≤ {default['r_max']:g}, phase ≤ {default['max_phase']:g}")
    if "a_min" in default:
        parts.append(f"{default['a_min']:g} ≤ {default['ring'].replace('^8', '⁸')} ≤ {default['a_max']:g}")
    return ", ".join([*parts, f"seed {seed}"])


def _defaults(family: Family) -> dict[str, Any]:
    """Return the default of each keyword of the initialization of a family."""
    return {name: parameter.default for name, parameter in inspect.signature(family.init).parameters.items()}


def summary(layer_memory: Memory) -> MemorySummary:
    """Return one row of the memory table: extremes over all modes, shares averaged over the channels."""
    margins = to_numpy(layer_memory.margins)

    def mean(x: object) -> tuple[float, ...]:
        return tuple(np.mean(to_numpy(x).reshape(-1, len(layer_memory.lags)), axis=0).tolist())

    return MemorySummary(
        largest=float(1 - np.min(margins)),
        margin=float(np.min(margins)),
        time_constant=float(np.max(to_numpy(layer_memory.time_constants))),
        half_life=float(np.max(to_numpy(layer_memory.half_lives))),
        lags=layer_memory.lags,
        modes_beyond=mean(layer_memory.modes_beyond),
        residue_beyond=mean(layer_memory.residue_beyond),
        energy_beyond=mean(layer_memory.energy_beyond),
    )


def _all_eigenvalues(spectrum: Spectrum) -> np.ndarray:
    """Return all log-poles, with the conjugates that the spectrum leaves out; real ones appear once."""
    mu = np.asarray(spectrum.log_poles).reshape(-1)
    if not spectrum.one_of_each_pair:
        return mu
    return np.concatenate([mu, np.conj(mu[np.imag(mu) != 0])])
