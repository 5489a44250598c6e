r"""Gramians, their factors, and Hankel singular values.

    P = Lambda P Lambda* + B B*,   Q = Lambda* Q Lambda + C* C,   hsv = sqrt(eig(P Q)) = svd(L_Q* L_P).

The factor L, not the Gramian, is the primitive: a Gramian keeps only what is larger than eps times its largest
eigenvalue, while every entry of the factor of a diagonal system is accurate to its own size. Its columns are
Takenaka's and Malmquist's orthogonal functions,

    L_k = g sqrt(1 - |l_p|^2) / (1 - l conj(l_p)),   then   g <- g (l - l_p) / (1 - l conj(l_p)),

taken over all poles l at once, from g = b, for the pivot p with the largest remaining energy |g_p|^2 / (1 - |l_p|^2):
complete pivoting of the Cauchy matrix P, with differences of poles formed before rounding (`expm1`). With several
inputs g has one column for each, and only its component along row p is multiplied (a Blaschke-Potapov factor).

References
----------
Ninness, Gustafsson, IEEE Trans. Autom. Control 42 (1997) 515-521 (the orthogonal functions);
Demmel, SIAM J. Matrix Anal. Appl. 21 (1999) 562-580 (accurate singular values of Cauchy matrices).
"""

import math

from jaxtyping import Bool, Float, Inexact

from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    abs2,
    adjoint,
    array_namespace,
    conj,
    device,
    expm1,
    is_complex,
    matmul,
    real,
    stop_gradient,
    to_complex,
)

KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)


def controllability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""P = sum_k A^k B B* (A*)^k, the solution of P = A P A* + B B*.

    Same as ``control.gram(sys, "c")`` of a discrete system, for a batch. That of a `RealDiagonalSSM` is the one of
    its ``expand()``. Closed form B B* / (1 - l conj(l')) where A is diagonal.

    Raises
    ------
    ValueError
        If a system is not stable: then the sum diverges and the Gramian does not exist.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> controllability_gramian(sys).round(6)
    array([[1.333333]])
    """
    lifted = _stable_and_lifted(sys, "controllability_gramian")
    if isinstance(lifted, StateSpace):
        return solve_stein(lifted.A, matmul(lifted.B, adjoint(lifted.B)))
    return _cauchy_gramian(lifted.log_poles, lifted.B)


def observability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""Q = sum_k (A*)^k C* C A^k, the solution of Q = A* Q A + C* C.

    Same as ``control.gram(sys, "o")`` of a discrete system, for a batch; see `controllability_gramian`.

    Raises
    ------
    ValueError
        If a system is not stable: then the sum diverges and the Gramian does not exist.
    """
    return controllability_gramian(_dual(_lifted(sys, "observability_gramian")))


def controllability_factor(sys: LTI) -> Inexact[Array, "*batch n k"]:
    """L with L L* = P.

    Same as ``control.gram(sys, "cf")``, for a batch, but not triangular: of a diagonal system it has n columns of
    decreasing weight, each entry accurate to its own size however small, and zero columns where P loses rank.

    Raises
    ------
    ValueError
        If a system is not stable: then the Gramian does not exist.
    """
    lifted = _stable_and_lifted(sys, "controllability_factor")
    if isinstance(lifted, StateSpace):
        return _dense_factor(lifted.A, lifted.B)
    return _diagonal_factor(lifted.B, *_cauchy_and_blaschke(lifted.log_poles))


def observability_factor(sys: LTI) -> Inexact[Array, "*batch n k"]:
    """L with L L* = Q; see `controllability_factor`.

    Raises
    ------
    ValueError
        If a system is not stable: then the Gramian does not exist.
    """
    return controllability_factor(_dual(_lifted(sys, "observability_factor")))


def hsv(sys: LTI) -> Float[Array, "*batch n"]:
    r"""Hankel singular values sqrt(eig(P Q)), decreasing.

    Same as ``control.hankel_singular_values`` (which refuses discrete time), for a batch. A `RealDiagonalSSM` has as
    many as its ``expand()`` has states. Those of a diagonal system with one input and one output are accurate to
    their own size: the product of the two factors is graded like its singular values, which Householder
    bidiagonalisation and the dqds iteration inside ``svdvals`` keep.

    Raises
    ------
    ValueError
        If a system is not stable: then its Gramians do not exist.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> hsv(sys).round(6)
    array([1.333333])
    """
    lifted = _stable_and_lifted(sys, "hsv")
    return _singular_values(lifted, in_double(sys))


def hankel_norm(sys: LTI) -> Float[Array, "*batch"]:
    """max(hsv): the largest gain from past inputs to future outputs; infinite where a system is not stable.

    Same as pyMOR's ``LTIModel.hankel_norm``, for a batch.
    """
    check_system(sys, KINDS, "hankel_norm")
    safe, unstable = made_stable(in_double(sys))
    return infinite_where(unstable, hsv(safe)[..., 0])


def solve_stein(A: Inexact[Array, "*batch n n"], R: Inexact[Array, "*batch n n"]) -> Inexact[Array, "*batch n n"]:
    """X = A X A* + R, by doubling: after k steps X holds the first 2^k terms of the sum over A^j R (A*)^j.

    Same as ``scipy.linalg.solve_discrete_lyapunov(A, R)``, for a batch; differentiable.

    Raises
    ------
    ValueError
        If an A is not stable: then the sum diverges.

    References
    ----------
    Smith, SIAM J. Appl. Math. 16 (1968) 198-201.
    """
    diverges, steps = _doublings(A)
    _refuse(diverges, "solve_stein", "X")
    for _ in range(steps):
        R = R + matmul(matmul(A, R), adjoint(A))
        A = matmul(A, A)
    return R
