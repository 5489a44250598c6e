"""Where each family's initialisation puts the eigenvalues of the discrete A, and what that lets it remember.

The numbers behind the unit-disk figure (Figure 2 of arXiv 2403.16899). The paper publishes neither its number of states
nor step range, seed and sample inputs, so each panel states its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.families import FAMILIES
from ssm_analysis.families.parameters import check_sizes
from ssm_analysis.layer import Layer
from ssm_analysis.memory import Memory, memory
from ssm_analysis.spectrum import Spectrum
from ssm_analysis.xp import to_numpy

STEPS = "Δ in [1e-3, 1e-1]"
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
    """Eigenvalues of one colour."""

    label: str
    log_poles: Inexact[np.ndarray, " k"]
    memory: MemorySummary


@dataclass(frozen=True, eq=False, kw_only=True)
class InitialEigenvalues:
    """One family at its initialisation."""

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
    families: Sequence[str] = tuple(FAMILIES), *, d_model: int = 64, d_state: int = 64, seed: int = 0
) -> list[InitialEigenvalues]:
    """Eigenvalues at initialisation, with the defaults of each family.

    Parameters
    ----------
    families
        Keys of ``FAMILIES``.
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
    return np.random.default_rng(seed).standard_normal((length, d_model))


def _initial(name: str, d_model: int, d_state: int, seed: int) -> InitialEigenvalues:
    family = FAMILIES[name]
    sizes = {"d_model": d_model, "seed": seed} | ({} if name == "rg_lru" else {"d_state": d_state})
    layer = family.init(**sizes)
    if layer.time_varying:
        return _selective(layer, d_model, d_state, seed)
    spectrum, sys = family.initial_spectrum(layer.params, **layer.options), layer.system()
    setting = f"{sys.batch_shape[0]} channels, N = {d_state}" if sys.batch_shape else f"N = {d_state}"
    setting += ", 0 ≤ r ≤ 1, phase ≤ 2π" if name == "lru" else f", {STEPS}"
    return InitialEigenvalues(
        family=name,
        title=family.title,
        setting=f"{setting}, seed {seed}",
        matrix=spectrum.matrix,
        condition=float(np.max(spectrum.condition)),
        series=(Series(label="A at initialisation", log_poles=_all_eigenvalues(spectrum), memory=summary(memory(sys, spectrum=spectrum))),),
    )


def _selective(layer: Layer, d_model: int, d_state: int, seed: int) -> InitialEigenvalues:
    family = FAMILIES[layer.family]
    series = []
    for which, label in ((1, "input 1"), (2, "input 2")):
        u = sample_input(SAMPLE_LENGTH, d_model, seed + which)
        moment = layer.along(u).frozen(SAMPLE_LENGTH - 1)
        series.append(Series(label=label, log_poles=moment.log_poles.reshape(-1), memory=summary(memory(moment))))
    channels = moment.batch_shape[0]
    size = f"{channels} channels, N = {d_state}, {STEPS}" if layer.family == "s6" else f"{channels} channels, N = 1, 0.9 ≤ a⁸ ≤ 0.999"
    return InitialEigenvalues(
        family=layer.family,
        title=family.title,
        setting=f"{size}, seed {seed}",
        matrix=f"A at token {SAMPLE_LENGTH} of two random inputs, N(0, 1)",
        condition=1.0,
        series=tuple(series),
    )


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
