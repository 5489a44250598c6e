r"""Fewer states with a bound on the error: balanced truncation and balanced singular perturbation.

With factors P = L_P L_P*, Q = L_Q L_Q* of the Gramians and the singular values L_Q* L_P = U S V*, the balancing projection
onto the first r states is (square-root method)

    T = L_P V_r S_r^{-1/2},   T^+ = S_r^{-1/2} U_r* L_Q*,   T^+ T = 1,

and both methods keep  ||G - G_r||_inf <= 2 sum_{i > r} sigma_i  and stability.

*Truncation* sets the other states to 0: (T^+ A T, T^+ B, C T, D); D, the response at once, stays.
*Singular perturbation* (residualization) lets them follow at once, z = 1, and so keeps the gain at frequency 0. With
R = (1 - A)^{-1} the states x in equilibrium satisfy (1 - A) x = B u + T w and T^+ x = x_r for some w, whence

    K = T^+ R T,   A_r = 1 - K^{-1},   B_r = K^{-1} T^+ R B,   C_r = C R T K^{-1},   D_r = D + C R B - C R T K^{-1} T^+ R B:

the states that are left out are never formed.

A `RealDiagonalSSM` is reduced as the real system it stands for, both modes of each pair, and stays real. Balancing its complex
half instead is another problem with other singular values: 99 % of their sum needed 10 to 11 of 64 against 16 to 20 of 128 on
four random LRUs (radii 0.9 to 0.999, phases up to pi/10).

References: Moore, IEEE Trans. Autom. Control 26 (1981) 17-32; Tombs, Postlethwaite, Int. J. Control 46 (1987) 1319-1330
(square roots); Liu, Anderson, Int. J. Control 50 (1989) 1379-1405 (singular perturbation); Al-Saggaf, Franklin, IEEE Trans.
Autom. Control 32 (1987) 815-819 and Hinrichsen, Pritchard, ibid. 35 (1990) 1361-1367 (the bound in discrete time).
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import SupportsIndex, TypeVar

import numpy as np
from jaxtyping import Float, Inexact, Int

from ssm_analysis.analyses.gramians.factors import gramian_factors
from ssm_analysis.analyses.gramians.gramians import controllability_gramian, observability_gramian
from ssm_analysis.analyses.gramians.stability import unstable
from ssm_analysis.analyses.norms.system_norms import hinf_norm
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.systems.conjugates import real_coordinates, states_per_mode
from ssm_analysis.xp import (
    Array,
    adjoint,
    array_namespace,
    device,
    eye,
    imag,
    is_complex,
    matmul,
    real,
    to_complex,
    to_numpy,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
WELL_CONDITIONED = 1e-3
"""Cholesky pivots q of a unit-diagonal Gramian above this: Hankel singular values then have relative errors of about
1e-16 / q^2, nine digits, and 1e-15 of the largest in any case (measured on eleven LRU-like systems). Below it the slower
factors of `gramian_factors` are used, which never form a Gramian."""
EPS = float(np.finfo(np.float64).eps)
Modal = TypeVar("Modal", bound=DiagonalSSM | RealDiagonalSSM)
Projection = Callable[[StateSpace, Array, Array], StateSpace]


@dataclass(frozen=True, eq=False, kw_only=True)
class Reduction:
    """A smaller system and how close it is to the given one.

    Parameters
    ----------
    system
        The reduced system, real where the given one was.
    hsv
        All Hankel singular values of the stable part of the given system, decreasing, in units of output per input, accurate to
        1e-16 of the largest; the function `hsv` has small ones to their own size.
    error_bound
        Twice the sum of the ``hsv`` left out, in units of output per input: an upper bound of
        ||G - G_r||_inf up to rounding (a pole stored to 1e-16 changes G by 1e-16 / (1 - |lambda|) of its size).
    condition
        ||T|| ||T^+|| of the balancing projection, dimensionless: the factor by which rounding errors of the state may be amplified.
    """

    system: StateSpace
    hsv: Float[Array, "*batch n"]
    error_bound: Float[Array, "*batch"]
    condition: Float[Array, "*batch"]


def balanced_truncation(sys: LTI, *, order: int | None = None, tol: float | None = None) -> Reduction:
    r"""Keep the states with the largest Hankel singular values, with ||G - G_r||_inf <= 2 sum of the others.

    The reduced system is (T^+ A T, T^+ B, C T, D), with the balancing projection T of this module.

    Same as pyMOR's ``BTReductor`` and SLICOT's ``ab09ad`` for discrete time, for a batch, complex and real.
    (``control.balanced_reduction`` treats discrete systems as continuous.)

    Parameters
    ----------
    sys
        A time-invariant system. Modes with |lambda| >= 1 of a diagonal system are kept as they are, the stable rest is reduced.
    order
        The number of states of the reduced system; at most as many as there are Hankel singular values above rounding. In a
        batch, systems with fewer of those get states that are connected to nothing.
    tol
        Instead of ``order``: the largest ``error_bound`` that is allowed, absolute, in units of output per input. The smallest
        order that keeps it, at least 1 and the same for the whole batch, is taken.

    Returns
    -------
    Reduction
        The reduced system, the Hankel singular values and the bound of the error.

    Raises
    ------
    ValueError
        If not exactly one of ``order`` and ``tol`` is given, one is out of range, or a `StateSpace` is not stable.

    References
    ----------
    Moore, IEEE Trans. Autom. Control 26 (1981) 17-32; Tombs, Postlethwaite, Int. J. Control 46 (1987) 1319-1330.

    Examples
    --------
    >>> modes = dict(log_poles=np.log([0.9, 0.5, 0.1]), B=np.asarray([[1.0], [1e-3], [1e-3]]), C=np.ones((1, 3)), D=np.zeros((1, 1)))
    >>> reduced = balanced_truncation(DiagonalSSM(**modes), tol=1e-2)
    >>> reduced.system.nstates, bool(reduced.error_bound < 1e-2)
    (1, True)
    """
    return _reduced(sys, order, tol, _truncated, "balanced_truncation")


def singular_perturbation(sys: LTI, *, order: int | None = None, tol: float | None = None) -> Reduction:
    r"""Keep the states with the largest Hankel singular values and let the others follow at once, so that G_r(1) = G(1).

    ||G - G_r||_inf is at most twice the sum of the Hankel singular values left out. Also called balanced residualization.

    Same as SLICOT's ``ab09bd`` for discrete time, for a batch, complex and real. Better than `balanced_truncation` at low
    frequencies, worse at high ones; its Hankel singular values are the first ones of the given system exactly.

    Parameters
    ----------
    sys
        A time-invariant system. Modes with |lambda| >= 1 of a diagonal system are kept as they are, the stable rest is reduced.
    order
        The number of states of the reduced system, as in `balanced_truncation`.
    tol
        Instead of ``order``: the largest ``error_bound`` that is allowed, as in `balanced_truncation`.

    Returns
    -------
    Reduction
        The reduced system, the Hankel singular values and the bound of the error.

    Raises
    ------
    ValueError
        If not exactly one of ``order`` and ``tol`` is given, one is out of range, or a `StateSpace` is not stable.

    References
    ----------
    Liu, Anderson, Int. J. Control 50 (1989) 1379-1405.

    Examples
    --------
    >>> from ssm_analysis.analyses.reduction import singular_perturbation
    >>> modes = dict(log_poles=np.log([0.9, 0.5, 0.1]), B=np.asarray([[1.0], [1e-3], [1e-3]]), C=np.ones((1, 3)), D=np.zeros((1, 1)))
    >>> sys = DiagonalSSM(**modes)
    >>> bool(np.isclose(singular_perturbation(sys, order=1).system(1.0), sys(1.0)))
    True
    """
    return _reduced(sys, order, tol, _residualized, "singular_perturbation")


def reduction_error(full: LTI, reduced: LTI) -> Float[Array, "*batch"]:
    """Return ||G - G_r||_inf, measured on the difference system; infinite where one of them is not stable.

    Parameters
    ----------
    full, reduced
        Two time-invariant systems of the same array library, batch shape, dt, number of inputs and number of outputs.

    Returns
    -------
    Array
        The H-infinity norm of the difference for each system of the batch, in units of output per input.

    Raises
    ------
    ValueError
        If the batch shape, dt, or the number of inputs or outputs differ.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from ssm_analysis.analyses.reduction import reduction_error
    >>> one = np.ones((1, 1))
    >>> half = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> float(reduction_error(half, replace(half, C=0 * one)).round(6))
    2.0
    """
    check_system(full, KINDS, "reduction_error")
    check_system(reduced, KINDS, "reduction_error")
    for name in ("batch_shape", "ninputs", "noutputs", "dt"):
        a, b = getattr(full, name), getattr(reduced, name)
        if a != b:
            raise ValueError(f"full and reduced must have the same {name}, got {a} and {b}")
    full, reduced = in_double(full), in_double(reduced)
    minus = replace(reduced, C=-reduced.C, D=-reduced.D)
    if isinstance(full, StateSpace) or isinstance(minus, StateSpace) or type(full) is not type(minus):
        return hinf_norm(_parallel(full.to_dense(), minus.to_dense()))
    return hinf_norm(_modes_of_both(full, minus))


def take_modes(sys: Modal, index: Int[Array, "*batch k"]) -> Modal:
    """Return the diagonal system with some of its modes only, those of ``index``, which may differ from system to system."""
    xp = sys.xp
    return replace(
        sys,
        log_poles=xp.take_along_axis(sys.log_poles, index, axis=-1),
        B=xp.take_along_axis(sys.B, index[..., :, None], axis=-2),
        C=xp.take_along_axis(sys.C, index[..., None, :], axis=-1),
    )


def integer_order(order: SupportsIndex) -> int:
    """Return ``order`` as an int, or raise a TypeError that says what is wanted."""
    try:
        return operator.index(order)
    except TypeError as error:
        raise TypeError(f"order must be a whole number of states, got {order!r}") from error


def _reduced(sys: LTI, order: int | None, tol: float | None, project: Projection, caller: str) -> Reduction:
    """Reduce the stable part of the system by ``project`` and join the modes with |lambda| >= 1 to it again."""
    check_system(sys, KINDS, caller)
    if (order is None) == (tol is None):
        raise ValueError(f"{caller} takes either order (a number of states) or tol (an error bound), got order={order!r} and tol={tol!r}")
    stable, outer = _split(in_double(sys), caller)
    xp, dense = stable.xp, stable.to_dense()
    right, left = _factors(stable)
    U, s, Vh = xp.linalg.svd(matmul(adjoint(left), right), full_matrices=False)
    kept = 0 if outer is None else outer.to_dense().nstates
    r = _chosen(to_numpy(s), dense.nstates, None if order is None else integer_order(order) - kept, tol, kept)
    above = s > dense.nstates * EPS * s[..., :1]
    root = xp.where(above, 1 / xp.sqrt(xp.where(above, s, xp.ones_like(s))), xp.zeros_like(s))[..., :r]
    T = matmul(right, adjoint(Vh[..., :r, :])) * root[..., None, :]
    T_plus = root[..., :, None] * matmul(adjoint(U[..., :r]), adjoint(left))
    reduced = project(dense, T, T_plus)
    missing = xp.zeros((*sys.batch_shape, dense.nstates - s.shape[-1]), dtype=s.dtype, device=device(s))
    return Reduction(
        system=reduced if outer is None else _parallel(outer.to_dense(), reduced),
        hsv=xp.concat([s, missing], axis=-1),
        error_bound=2 * xp.sum(s[..., r:], axis=-1),
        condition=xp.linalg.svdvals(T)[..., 0] * xp.linalg.svdvals(T_plus)[..., 0],
    )


def _truncated(sys: StateSpace, T: Array, T_plus: Array) -> StateSpace:
    """Return (T^+ A T, T^+ B, C T, D): the projected system, in which the states left out are 0."""
    return replace(sys, A=matmul(T_plus, matmul(sys.A, T)), B=matmul(T_plus, sys.B), C=matmul(sys.C, T))


def _residualized(sys: StateSpace, T: Array, T_plus: Array) -> StateSpace:
    """Return the projected system in which the states left out follow at once, by the formulas of this module."""
    xp, n, r = sys.xp, sys.nstates, T.shape[-1]
    both = xp.concat(_one_kind(T, sys.B), axis=-1)
    both = xp.linalg.solve(eye(n, like=sys.A) - sys.A, both)
    RT, RB = both[..., :r], both[..., r:]
    K, input_ = matmul(T_plus, RT), matmul(T_plus, RB)
    connected = xp.any(T_plus != 0, axis=-1)[..., None, :]  # states that fill up a batch have K = 0: let them be 1 there
    K = K + xp.where(connected, xp.zeros_like(K), eye(r, like=K))
    inverse = xp.linalg.inv(K)
    C = matmul(matmul(sys.C, RT), inverse)
    return replace(sys, A=eye(r, like=K) - inverse, B=matmul(inverse, input_), C=C, D=sys.D + matmul(sys.C, RB) - matmul(C, input_))


def _split(sys: LTI, caller: str) -> tuple[LTI, LTI | None]:
    """Return the stable part of the system, with D, and its modes with |lambda| >= 1 if there are any."""
    if isinstance(sys, StateSpace):
        if bool(sys.xp.any(unstable(sys))):
            raise ValueError(
                f"{caller} needs a stable StateSpace, all |lambda| < 1, because it has no Gramians otherwise; "
                "of a DiagonalSSM or RealDiagonalSSM the stable modes are reduced and the others kept"
            )
        return sys, None
    outside = to_numpy(real(sys.log_poles)) >= 0
    if not outside.any():
        return sys, None
    count = np.unique(np.sum(outside, axis=-1))
    if len(count) > 1:
        raise ValueError(f"{caller} needs as many modes with |lambda| >= 1 in every system of the batch, got {count.tolist()}; index it")
    if count[0] == sys.nstates:
        raise ValueError(f"{caller} reduces the stable part, but every mode has |lambda| >= 1")
    index = sys.xp.asarray(np.argsort(outside, axis=-1, stable=True), device=device(sys.B))
    first = sys.nstates - int(count[0])
    outer = take_modes(sys, index[..., first:])
    return take_modes(sys, index[..., :first]), replace(outer, D=0 * outer.D)


def _factors(sys: LTI) -> tuple[Array, Array]:
    """Return L_P and L_Q in the coordinates of ``sys.to_dense()``, real where that is, n columns at most."""
    if isinstance(sys, StateSpace):
        return gramian_factors(sys)
    if isinstance(sys, RealDiagonalSSM):
        return _real_factors(sys)
    (right, right_good), (left, left_good) = _cholesky(controllability_gramian(sys)), _cholesky(observability_gramian(sys))
    return (right, left) if right_good and left_good else gramian_factors(sys)


def _real_factors(sys: RealDiagonalSSM) -> tuple[Float[Array, "*batch n k"], Float[Array, "*batch n k"]]:
    """Return real factors of T P T* and T^{-*} Q T^{-1} for the change of coordinates T from ``expand()`` to ``to_dense()``.

    T^{-*} is 2 T on a pair and T on a single mode.
    """
    xp, whole, sizes = sys.xp, sys.expand(), states_per_mode(sys.modes)
    weight = xp.asarray(np.repeat(sizes, sizes)[:, None].astype(np.float64), device=device(sys.B))
    gramians = controllability_gramian(whole), observability_gramian(whole)
    P, Q = (real_coordinates(sys.modes, adjoint(real_coordinates(sys.modes, X))) for X in gramians)
    (right, right_good), (left, left_good) = _cholesky(real(P)), _cholesky(real(Q))
    if not (right_good and left_good):
        right, left = (_real_factor(real_coordinates(sys.modes, L)) for L in gramian_factors(whole))
    return right, weight * left


def _real_factor(L: Inexact[Array, "*batch n k"]) -> Float[Array, "*batch n n"]:
    """Return a real factor of L L* where that is real, Re L Re L^T + Im L Im L^T."""
    if not is_complex(L):
        return L
    xp = array_namespace(L)
    return adjoint(xp.linalg.qr(adjoint(xp.concat([real(L), imag(L)], axis=-1)))[1])


def _cholesky(P: Inexact[Array, "*batch n n"]) -> tuple[Inexact[Array, "*batch n n"], bool]:
    """Return L with L L* = P, found by way of the unit-diagonal P, and whether that is well conditioned throughout the batch."""
    xp = array_namespace(P)
    size = xp.sqrt(xp.abs(real(xp.linalg.diagonal(P))))
    if bool(xp.any(size == 0)):
        return P, False
    try:
        L = xp.linalg.cholesky(P / (size[..., :, None] * size[..., None, :]))
    except (ValueError, RuntimeError):  # what numpy's and torch's LinAlgError are: P is not positive definite in 64 bits
        return P, False
    return size[..., :, None] * L, bool(xp.min(real(xp.linalg.diagonal(L))) > WELL_CONDITIONED)


def _chosen(s: Float[np.ndarray, "*batch k"], n: int, order: int | None, tol: float | None, kept: int) -> int:
    """Return how many states of the stable part to keep; one order for the whole batch."""
    s = np.reshape(s, (-1, s.shape[-1]))
    rank = max(1, int(np.max(np.sum(s > n * EPS * s[:, :1], axis=-1))))
    outer = f"{kept} with |lambda| >= 1 that are kept and " if kept else ""
    if order is not None:
        if not 1 <= order <= rank:
            raise ValueError(
                f"order must be from {kept + 1} to {kept + rank}, got {kept + order}: the system has {outer}{rank} states whose Hankel "
                f"singular value is above rounding ({n * EPS:.1e} of the largest); further ones would be noise"
            )
        return order
    assert tol is not None
    if not tol > 0:
        raise ValueError(f"tol must be positive, a bound on ||G - G_r||_inf, got {tol!r}")
    tails = 2 * np.concatenate([np.cumsum(s[:, ::-1], axis=-1)[:, ::-1], np.zeros_like(s[:, :1])], axis=-1)
    least = float(np.max(tails[:, min(rank, s.shape[-1])]))
    if least > tol:
        raise ValueError(f"tol must be at least {least:.3g}, got {tol}: smaller Hankel singular values of this system are rounding noise")
    return max(1, int(np.argmax(np.all(tails <= tol, axis=0))))


def _parallel(first: StateSpace, second: StateSpace) -> StateSpace:
    """Return the parallel connection G_1 + G_2 of systems with a full A."""
    A, B, C, D = (_one_kind(getattr(first, name), getattr(second, name)) for name in first.AXES)
    xp, n = first.xp, first.nstates
    right, below = (xp.zeros_like(M) for M in (A[0][..., :, :1], A[0][..., :1, :]))
    upper = xp.concat([A[0], xp.broadcast_to(right, (*A[0].shape[:-1], second.nstates))], axis=-1)
    lower = xp.concat([xp.broadcast_to(below, (*A[1].shape[:-1], n)), A[1]], axis=-1)
    return replace(first, A=xp.concat([upper, lower], axis=-2), B=xp.concat(B, axis=-2), C=xp.concat(C, axis=-1), D=D[0] + D[1])


def _modes_of_both(first: Modal, second: Modal) -> Modal:
    """Return the parallel connection G_1 + G_2 of diagonal systems."""
    mu, B, C, D = (_one_kind(getattr(first, name), getattr(second, name)) for name in first.AXES)
    xp = first.xp
    return replace(first, log_poles=xp.concat(mu, axis=-1), B=xp.concat(B, axis=-2), C=xp.concat(C, axis=-1), D=D[0] + D[1])


def _one_kind(first: Array, second: Array) -> list[Array]:
    """Return both arrays, as complex ones if one of them is: concat does not mix them."""
    return [to_complex(first), to_complex(second)] if is_complex(first) != is_complex(second) else [first, second]
