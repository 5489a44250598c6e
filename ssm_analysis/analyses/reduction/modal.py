r"""Fewer modes: modal truncation, modal singular perturbation, and what each mode can contribute.

A mode c b / (z - lambda) has the H-infinity norm ||c|| ||b|| / (1 - |lambda|), its *gain*, and LAST prunes by the square of
it. The modes with the largest gains are kept, and the gains of the others sum to a bound on the error of the truncation. In modal singular
perturbation the others follow at once, c b / (1 - lambda) is added to D, and what is missing of each is

    c b (1 / (z - lambda) - 1 / (1 - lambda)) = c b (1 - z) / ((z - lambda)(1 - lambda)),

of norm 2 ||c|| ||b|| / (1 - |lambda|^2): the image of the unit circle under (1 - z)/(z - lambda) = -1 + (1 - lambda)/(z - lambda) is a
circle through 0 (z = 1) of radius |1 - lambda| / (1 - |lambda|^2), and its farthest point from 0 lies at twice that.

The result is diagonal again, so a layer stays in its family. Balanced truncation needs fewer states for the same error where modes
overlap; its bound sums Hankel singular values, not gains.

References: Gwak, Moon, Ko, Park, arXiv 2411.02824 (LAST: the score, per layer and across layers); Forgione, Mejari, Piga, arXiv
2403.14833 (all four methods on LRUs; they rank by |lambda|, ``scores=sys.xp.abs(sys.poles())``); the two bounds are derived above.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from ssm_analysis.analyses.reduction.balanced import integer_order, take_modes
from ssm_analysis.analyses.spectrum.diagonalization import diagonalized
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_library, check_system, in_double
from ssm_analysis.systems.conjugates import states_per_mode
from ssm_analysis.xp import Array, device, expm1, is_array, is_complex, matmul, real, to_numpy

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)


@dataclass(frozen=True, eq=False, kw_only=True)
class ModalReduction:
    """A system with fewer modes and how close it is to the given one.

    Parameters
    ----------
    system
        The modes that were kept, real ones first, else by score: a `RealDiagonalSSM` for a real system, else a `DiagonalSSM`.
    kept
        Their indices in the given system, or in its diagonal form where it was a `StateSpace`.
    scores
        The numbers by which all modes were ranked, in the order of the given system; by default `modal_gains`.
    error_bound
        An upper bound of ||G - G_r||_inf, in units of output per input: the sum of the norms of what was left out of each mode.
    condition
        The condition number of the eigenvectors, dimensionless; 1 where the system was diagonal.
    """

    system: DiagonalSSM | RealDiagonalSSM
    kept: Int[Array, "*batch k"]
    scores: Float[Array, "*batch n"]
    error_bound: Float[Array, "*batch"]
    condition: Float[Array, "*batch"]


def modal_gains(sys: DiagonalSSM | RealDiagonalSSM) -> Float[Array, "*batch n"]:
    """Return the H-infinity norm of each mode alone, ||c_i||_2 ||b_i||_2 / (1 - |lambda_i|); infinite where |lambda| >= 1.

    It is the square root of the LAST score.

    Parameters
    ----------
    sys
        A diagonal system. A mode of a `RealDiagonalSSM` stands for its pair, of which the gain is a bound.

    Returns
    -------
    Array
        One gain for each mode, in units of output per input.

    References
    ----------
    Gwak, Moon, Ko, Park, arXiv 2411.02824 (the LAST score).

    Examples
    --------
    >>> from ssm_analysis.analyses.reduction import modal_gains
    >>> modal_gains(DiagonalSSM(log_poles=np.log([0.9, 0.5]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))).round(6)
    array([10.,  2.])
    """
    check_system(sys, (DiagonalSSM, RealDiagonalSSM), "modal_gains")
    sys = in_double(sys)
    xp = sys.xp
    margin = -xp.expm1(real(sys.log_poles))
    inside = margin > 0
    gains = _residue_norms(sys) / xp.where(inside, margin, xp.ones_like(margin))
    return xp.where(inside, gains, xp.full_like(gains, np.inf))


def modal_truncation(sys: LTI, *, order: int, scores: Float[Array, "*batch n"] | None = None) -> ModalReduction:
    r"""Keep the modes with the largest gains ||c|| ||b|| / (1 - |lambda|) and drop the others: D stays.

    Parameters
    ----------
    sys
        A time-invariant system; a `StateSpace` is diagonalized first. The modes of a `DiagonalSSM` stand alone, also where
        two of them are conjugates: hand over a system with a real kernel as a `RealDiagonalSSM`.
    order
        The largest number of states of the reduced system. A mode of a `RealDiagonalSSM` counts as the two states of its
        pair, or as one where it is real; the leading modes are kept as long as they fit, in every system of the batch.
    scores
        Numbers by which the modes are ranked instead of their gains, the largest first, for a system that is diagonal already.

    Returns
    -------
    ModalReduction
        The reduced system, which modes it keeps, and the bound of the error.

    Raises
    ------
    ValueError
        If ``order`` is out of range or leaves out a mode with |lambda| >= 1, ``scores`` does not fit, or a `StateSpace` has no
        diagonal form.

    References
    ----------
    Forgione, Mejari, Piga, arXiv 2403.14833 (modal truncation of LRUs); the bound is derived in this module.

    Examples
    --------
    >>> from ssm_analysis.analyses.reduction import modal_truncation
    >>> sys = DiagonalSSM(log_poles=np.log([0.9, 0.5]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    >>> modal_truncation(sys, order=1).kept, modal_truncation(sys, order=1).error_bound.round(6)
    (array([0]), np.float64(2.0))
    """
    return _reduced(sys, order, scores, "modal_truncation", static=False)


def modal_singular_perturbation(sys: LTI, *, order: int, scores: Float[Array, "*batch n"] | None = None) -> ModalReduction:
    r"""Keep the modes with the largest gains and replace the others by their gain at frequency 0, so that G_r(1) = G(1).

    D becomes D + sum c b / (1 - lambda) over the other modes. This suits modes that are fast, lambda ~ 0, whose static part
    `modal_truncation` would lose.

    Parameters
    ----------
    sys
        A time-invariant system; a `StateSpace` is diagonalized first.
    order
        The largest number of states of the reduced system, as in `modal_truncation`.
    scores
        Numbers by which the modes are ranked instead of their gains, as in `modal_truncation`.

    Returns
    -------
    ModalReduction
        The reduced system, which modes it keeps, and the bound of the error.

    Raises
    ------
    ValueError
        If ``order`` is out of range or leaves out a mode with |lambda| >= 1, ``scores`` does not fit, or a `StateSpace` has no
        diagonal form.

    References
    ----------
    Forgione, Mejari, Piga, arXiv 2403.14833 (modal singular perturbation of LRUs); the bound is derived in this module.

    Examples
    --------
    >>> from ssm_analysis.analyses.reduction import modal_singular_perturbation
    >>> sys = DiagonalSSM(log_poles=np.log([0.9, 0.5]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    >>> modal_singular_perturbation(sys, order=1).system.D.round(6)  # 1 / (1 - 0.5)
    array([[2.]])
    """
    return _reduced(sys, order, scores, "modal_singular_perturbation", static=True)


def _reduced(sys: LTI, order: int, scores: Array | None, caller: str, *, static: bool) -> ModalReduction:
    """Reduce the system; ``static`` says whether the modes left out are replaced by their gain at frequency 0."""
    check_system(sys, KINDS, caller)
    modes, condition = _modes(sys, scores, caller)
    xp, gains = modes.xp, modal_gains(modes)
    scores = gains if scores is None else scores
    kept, dropped = (xp.asarray(x, device=device(modes.B)) for x in _chosen(modes, to_numpy(scores), integer_order(order)))
    rest = xp.take_along_axis(gains, dropped, axis=-1)
    if bool(xp.any(rest == np.inf)):
        raise ValueError(f"order must leave room for every mode with |lambda| >= 1, got {order}; without one the error has no bound")
    system = take_modes(modes, kept)
    if static and dropped.shape[-1] > 0:
        others = take_modes(modes, dropped)
        system = replace(system, D=system.D + _gain_at_zero(others))
        rest = rest * 2 / (1 + xp.exp(real(others.log_poles)))  # 1 - |l|^2 = (1 - |l|)(1 + |l|)
    return ModalReduction(system=system, kept=kept, scores=scores, error_bound=xp.sum(rest, axis=-1), condition=condition)


def _modes(sys: LTI, scores: Array | None, caller: str) -> tuple[DiagonalSSM | RealDiagonalSSM, Array]:
    """Return the system in diagonal form, in 64 bits, and the condition of its eigenvectors, after checking ``scores``."""
    if isinstance(sys, StateSpace):
        if scores is not None:
            raise ValueError(f"scores rank the modes of a diagonal system; hand diagonalized(sys).system to {caller}, not a StateSpace")
        form = diagonalized(sys)
        return form.system, form.condition
    if scores is not None:
        wanted = (*sys.batch_shape, sys.nstates)
        if not is_array(scores) or tuple(scores.shape) != wanted or is_complex(scores):
            raise ValueError(f"scores must be a real array of shape {wanted}, one for each mode, got {getattr(scores, 'shape', scores)}")
        check_library(sys, "scores", scores)
    sys = in_double(sys)
    return sys, 1 + 0 * real(sys.log_poles)[..., 0]


def _chosen(sys: DiagonalSSM | RealDiagonalSSM, scores: Float[np.ndarray, "*batch n"], order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the modes to keep and of the others.

    As many leading modes are kept as ``order`` states can hold in every system. A batch needs a second state for a
    mode that is real in some of its systems only, so single modes come first.
    """
    sizes = states_per_mode(sys.modes) if isinstance(sys, RealDiagonalSSM) else np.ones(sys.nstates, dtype=np.int64)
    ranking = np.argsort(-scores, axis=-1, stable=True)
    pair = sizes[ranking] == 2
    needed = np.arange(1, sys.nstates + 1) + np.max(np.reshape(np.cumsum(pair, axis=-1), (-1, sys.nstates)), axis=0)
    if not needed[0] <= order <= needed[-1]:
        what = " (the first mode is a conjugate pair)" if needed[0] > 1 else ""
        raise ValueError(f"order must be from {needed[0]}{what} to {needed[-1]} states, got {order}")
    k = int(np.sum(needed <= order))
    singles_first = np.argsort(pair[..., :k], axis=-1, stable=True)
    return np.take_along_axis(ranking[..., :k], singles_first, axis=-1), ranking[..., k:]


def _residue_norms(sys: DiagonalSSM | RealDiagonalSSM) -> Float[Array, "*batch n"]:
    """Return ||c_i b_i||_2 = ||c_i|| ||b_i|| of each mode."""
    norm = sys.xp.linalg.vector_norm
    return norm(sys.C, axis=-2) * norm(sys.B, axis=-1)


def _gain_at_zero(sys: DiagonalSSM | RealDiagonalSSM) -> Array:
    """Return sum c b / (1 - lambda), its real part where that is what the system reads out."""
    gain = matmul(sys.C / -expm1(sys.log_poles)[..., None, :], sys.B)
    return real(gain) if isinstance(sys, RealDiagonalSSM) else gain
