"""Where each family's initialization puts the eigenvalues of the discrete A, and what that lets it remember.

The numbers behind the unit-disk figure (Figure 2 of arXiv 2403.16899). The paper publishes neither its number of states
nor step range, seed and sample inputs, so each panel states its own.
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
    """Memory of all modes of a layer, averaged over its channels. Times in tokens, shares between 0 and 1."""

    largest: float
    """Largest |lambda|."""
    margin: float
    """Smallest 1 - |lambda|."""
    time_constant: float
    half_life: float
    lags: tuple[int, ...]
    modes_beyond: tuple[float, ...]
    residue_beyond: tuple[float, ...]
    energy_beyond: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Series:
    """Eigenvalues of one color."""

    label: str
    log_poles: Inexact[np.ndarray, " k"]
    memory: MemorySummary


@dataclass(frozen=True, eq=False, kw_only=True)
class InitialEigenvalues:
    """One family at its initialization."""

    family: str
    title: str
    setting: str
    """States, steps, what varies: the words under the title."""
    matrix: str
    """Which matrix the eigenvalues belong to."""
    condition: float
    """Condition number of its eigenvectors, the largest over the channels."""
    series: tuple[Series, ...]


def initial_eigenvalues(
    families: Sequence[str] = PAPER, *, d_model: int = 64, d_state: int = 64, seed: int = 0
) -> list[InitialEigenvalues]:
    """Eigenvalues at initialization, with the defaults of each family.

    Parameters
    ----------
    families
        Keys of ``FAMILIES``; by default those of the paper.
    d_model
        Features of each layer.
    d_state
        States per channel; RG-LRU has one whatever this says.
    seed
        Seed of the parameters; the two sample inputs of selective layers use ``seed + 1`` and ``seed + 2``.

    Raises
    ------
    KeyError
        If a family is unknown.
    ValueError
        If a size is not a positive integer.
    """
    check_sizes(d_model=d_model, d_state=d_state)
    return [_initial(name, d_model, d_state, seed) for name in families]


def sample_input(length: int, d_model: int, seed: int) -> Float[np.ndarray, "length d_model"]:
    """Independent standard normal numbers: as large as what a norm layer emits."""
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
    """The words under the title: sizes, and the ranges that the initialization draws from by default."""
    default = _defaults(family)
    words = [f"{math.prod(channels)} channels"] if channels else []
    words.append(f"N = {states}")
    if "dt_min" in default:
        words.append(f"Δ in [{default['dt_min']:g}, {default['dt_max']:g}]")
    if "r_min" in default:
        words.append(f"{default['r_min']:g} ≤ r ≤ {default['r_max']:g}, phase ≤ {default['max_phase']:g}")
    if "a_min" in default:
        words.append(f"{default['a_min']:g} ≤ {default['ring'].replace('^8', '⁸')} ≤ {default['a_max']:g}")
    return ", ".join([*words, f"seed {seed}"])


def _defaults(family: Family) -> dict[str, Any]:
    """The keywords of the initialization, which differ between families, and their defaults."""
    return {name: parameter.default for name, parameter in inspect.signature(family.init).parameters.items()}


def summary(found: Memory) -> MemorySummary:
    """One row of the table: extremes over all modes, shares averaged over the channels."""
    margins = to_numpy(found.margins)

    def mean(x: object) -> tuple[float, ...]:
        return tuple(np.mean(to_numpy(x).reshape(-1, len(found.lags)), axis=0).tolist())

    return MemorySummary(
        largest=float(1 - np.min(margins)),
        margin=float(np.min(margins)),
        time_constant=float(np.max(to_numpy(found.time_constants))),
        half_life=float(np.max(to_numpy(found.half_lives))),
        lags=found.lags,
        modes_beyond=mean(found.modes_beyond),
        residue_beyond=mean(found.residue_beyond),
        energy_beyond=mean(found.energy_beyond),
    )


def _all_eigenvalues(spectrum: Spectrum) -> np.ndarray:
    """With both of each conjugate pair where one stands for two; real ones once."""
    mu = np.asarray(spectrum.log_poles).reshape(-1)
    if not spectrum.one_of_each_pair:
        return mu
    return np.concatenate([mu, np.conj(mu[np.imag(mu) != 0])])
