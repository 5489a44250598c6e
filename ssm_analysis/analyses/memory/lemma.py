r"""How far back a system remembers: Lemma 2.2 of arXiv 2403.16899, and what it leaves out.

The lemma looks at poles only: memory is long where |lambda| <= 1 and |lambda| ~ 1. A pole near the circle whose
input or output weight is tiny carries no memory, so three shares are given for every lag T:

- of the modes: how many have a time constant of at least T tokens, |lambda|^T >= 1/e;
- of the residues: the same, each mode counted by the Frobenius norm of its residue c b;
- of the energy: sum_{k > T} ||K[k]||^2 / sum_k ||K[k]||^2 of the kernel K = (D, C B, C A B, ...), in which modes may
  cancel; it needs no eigenvectors and so holds for non-normal systems too.
"""

import math
from dataclasses import dataclass
from numbers import Integral

from jaxtyping import Float

from ssm_analysis.analyses.gramians.energy import energy_beyond
from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.analyses.spectrum.modes import rates, times
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, device, real

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
LAGS = (10, 100, 1_000, 10_000)
"""Lags in tokens for which shares are given where none are asked for."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Memory:
    """How far back a system remembers: by mode, and as shares, between 0 and 1, that last beyond given lags.

    Parameters
    ----------
    margins
        1 - |lambda| of each mode, dimensionless; negative outside the circle.
    time_constants, half_lives
        -1 / log|lambda| and log(2) times that for each mode, in tokens (units of dt); infinite where |lambda| >= 1.
    residues
        ||c b||_F of each mode, in units of output per input. NaN for dense systems, whose modes need not be separable.
    lags
        The lags T of the shares, in tokens.
    modes_beyond
        The share of the modes with a time constant of at least T.
    residue_beyond
        The share of the residues, summed over modes, that belongs to modes with a time constant of at least T. NaN for dense systems.
    energy_beyond
        The share of the energy of the kernel that comes later than T tokens. NaN where the kernel has no finite energy,
        or none at all.
    """

    margins: Float[Array, "*batch n"]
    time_constants: Float[Array, "*batch n"]
    half_lives: Float[Array, "*batch n"]
    residues: Float[Array, "*batch n"]
    lags: tuple[int, ...]
    modes_beyond: Float[Array, "*batch lags"]
    residue_beyond: Float[Array, "*batch lags"]
    energy_beyond: Float[Array, "*batch lags"]


def memory(sys: LTI, *, lags: tuple[int, ...] = LAGS, spectrum: Spectrum | None = None) -> Memory:
    """Return margins, time constants, and the shares of modes, residues and energy that last beyond ``lags``.

    Parameters
    ----------
    sys
        A time-invariant system; of a selective layer one moment, ``layer.along(u).frozen(at)``.
    lags
        The lags T of the shares in tokens, positive integers.
    spectrum
        Eigenvalues that are known better than from A, as ``layer.spectrum()`` of an S4 layer; by default those of ``sys``.

    Returns
    -------
    Memory
        The numbers of each mode, and one share for each lag.

    Raises
    ------
    ValueError
        If a lag is not a positive integer, or the spectrum is not that of a system with these states.

    References
    ----------
    Amo Alonso, Sieber, Zeilinger, arXiv 2403.16899, Lemma 2.2 (the share of modes); the other two shares are defined in this module.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> memory(sys, lags=(1, 2)).energy_beyond
    array([0.25  , 0.0625])
    """
    check_system(sys, KINDS, "memory")
    if len(lags) == 0 or any(not isinstance(lag, Integral) or isinstance(lag, bool) or lag < 1 for lag in lags):
        raise ValueError(f"lags must be positive integers (tokens), got {lags!r}")
    lags = tuple(int(lag) for lag in lags)
    sys = in_double(sys)
    xp = sys.xp
    rate = rates(sys) if spectrum is None else _rates_of(spectrum, sys)
    weight = _residue_sizes(sys, rate)
    T = xp.asarray(lags, dtype=rate.dtype, device=device(rate))
    beyond = xp.astype(times(rate)[..., None] >= T, rate.dtype)
    total = xp.sum(weight, axis=-1, keepdims=True)
    nothing = xp.full_like(total, math.nan)
    weighted = xp.sum(weight[..., None] * beyond, axis=-2) / xp.where(total == 0, nothing, total)
    return Memory(
        margins=-xp.expm1(-rate),
        time_constants=times(rate) * sys.dt,
        half_lives=math.log(2) * times(rate) * sys.dt,
        residues=weight,
        lags=lags,
        modes_beyond=xp.mean(beyond, axis=-2),
        residue_beyond=weighted,
        energy_beyond=energy_beyond(sys, lags),
    )


def _residue_sizes(sys: LTI, rate: Array) -> Array:
    """Return ||c b||_F of each mode of a diagonal system; NaN in the shape of ``rate`` for a dense one."""
    if isinstance(sys, StateSpace):
        return sys.xp.full_like(rate, math.nan)
    norm = sys.xp.linalg.vector_norm  # ||c b||_F = ||c|| ||b||: the matrices c b of 1,000 channels would take gigabytes
    return norm(sys.C, axis=-2) * norm(sys.B, axis=-1)


def _rates_of(spectrum: Spectrum, sys: LTI) -> Array:
    """Return the decay rates -log|lambda| of ``spectrum``, after checking that it holds one eigenvalue for each state."""
    rate = -real(spectrum.log_poles)
    if tuple(rate.shape) != (*sys.batch_shape, sys.nstates):
        raise ValueError(f"spectrum must hold {(*sys.batch_shape, sys.nstates)} eigenvalues, one for each state, got {tuple(rate.shape)}")
    return rate
