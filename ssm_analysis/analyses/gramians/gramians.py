r"""Gramians, their factors, and Hankel singular values.

    P = A P A* + B B*,   Q = A* Q A + C* C,   hsv = sqrt(eig(P Q)) = svd(L_Q* L_P)   with   P = L_P L_P*, Q = L_Q L_Q*.

The factor, not the Gramian, is the primitive: a Gramian holds nothing below eps times its largest eigenvalue, while
the factor of a diagonal system is accurate entry by entry (see `cauchy_factors`).
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool, Float, Inexact

from ssm_analysis.analyses.gramians.cauchy_factors import multi_input_factor, orthogonal_functions, pair_functions
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import (
    Array,
    adjoint,
    array_namespace,
    conj,
    expm1,
    imag,
    matmul,
    real,
    stop_gradient,
    to_complex,
    to_numpy,
)

S = TypeVar("S", bound=DiagonalSSM | StateSpace)
T = TypeVar("T", bound=LTI)
KINDS = (DiagonalSSM, RealDiagonalSSM, StateSpace)
LARGE = 1e100
"""Powers of A beyond this size count as unbounded; its square is still a finite double."""
NEGLIGIBLE = 2.0**-27
"""Size of A^k below which ||A^k||^2 is less than eps / 4."""
DOUBLINGS = 64
"""A^(2^64): even |lambda| = 1 - 2^-53, the largest double below 1, has decayed by e^-2048."""


def controllability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""P = sum_k A^k B B* (A*)^k, the solution of P = A P A* + B B*.

    Same as ``control.gram(sys, "c")`` for a discrete system, for a batch. That of a `RealDiagonalSSM` belongs to its
    ``expand()``. Where A is diagonal it is B B* / (1 - l conj(l')), each entry in closed form.

    Raises
    ------
    ValueError
        If a system is not stable: the sum diverges and the Gramian does not exist.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> controllability_gramian(sys).round(6)
    array([[1.333333]])
    """
    sys = _stable(sys, "controllability_gramian")
    weight = matmul(sys.B, adjoint(sys.B))
    if isinstance(sys, StateSpace):
        return _stein_sum(sys.A, weight)
    return weight / -expm1(sys.log_poles[..., :, None] + conj(sys.log_poles)[..., None, :])


def observability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""Q = sum_k (A*)^k C* C A^k, the solution of Q = A* Q A + C* C.

    Same as ``control.gram(sys, "o")`` for a discrete system, for a batch; see `controllability_gramian`.

    Raises
    ------
    ValueError
        If a system is not stable: the sum diverges and the Gramian does not exist.
    """
    return controllability_gramian(dual(_stable(sys, "observability_gramian")))


def controllability_factor(sys: LTI) -> Inexact[Array, "*batch n n"]:
    """L with L L* = P.

    Same as ``control.gram(sys, "cf")`` up to a unitary factor, for a batch. Of a diagonal system L has n columns of
    decreasing weight, every entry accurate to its own size (with one input; to the size of its row otherwise), and
    zero columns where P loses rank. That of a `RealDiagonalSSM` belongs to its ``expand()``.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramian does not exist.
    """
    sys = _stable(sys, "controllability_factor")
    return _dense_factor(sys) if isinstance(sys, StateSpace) else _diagonal_factor(sys, sys.xp.ones_like(real(sys.log_poles)))


def observability_factor(sys: LTI) -> Inexact[Array, "*batch n n"]:
    """L with L L* = Q; see `controllability_factor`.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramian does not exist.
    """
    return controllability_factor(dual(_stable(sys, "observability_factor")))


def gramian_factors(sys: LTI) -> tuple[Inexact[Array, "*batch n n"], Inexact[Array, "*batch n n"]]:
    """(L_P, L_Q) with columns so ordered that L_Q* L_P is graded, largest entries first: what `hsv` and reduction need.

    As `controllability_factor` and `observability_factor`, except that the pivots do not depend on the scaling of the
    states: they are those of states with equal input and output rows. With one input and one output both factors
    then share their pivots, and svd(L_Q* L_P) is accurate to the size of each singular value.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramians do not exist.
    """
    sys = _stable(sys, "gramian_factors")
    if isinstance(sys, StateSpace):
        return _dense_factor(sys), _dense_factor(dual(sys))
    if sys.ninputs == sys.noutputs == 1:
        c = sys.xp.matrix_transpose(sys.C)
        functions = orthogonal_functions(sys.log_poles, _residue_size(sys))
        return sys.B * functions, conj(c * functions)
    scale = _balancing(sys)
    return _diagonal_factor(sys, scale), _diagonal_factor(dual(sys), 1 / scale)


def hsv(sys: LTI) -> Float[Array, "*batch n"]:
    r"""Hankel singular values sqrt(eig(P Q)), decreasing.

    Same as ``control.hankel_singular_values``, which refuses discrete time, for a batch. A `RealDiagonalSSM` has as
    many as its ``expand()`` has states. Of a diagonal system with one input and one output each value is accurate to
    its own size: L_Q* L_P = D M D with D diagonal and decreasing and M well conditioned, and both the Householder
    bidiagonalization and the dqds iteration that LAPACK uses for singular values alone respect such a grading.

    Raises
    ------
    ValueError
        If a system is not stable: its Gramians do not exist.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> hsv(sys).round(6)
    array([1.333333])
    """
    lifted = _stable(sys, "hsv")
    if isinstance(sys, RealDiagonalSSM) and sys.ninputs == sys.noutputs == 1 and lifted.nstates == 2 * sys.nstates:
        return sys.xp.linalg.svdvals(_pair_product(in_double(sys)))
    left, right = gramian_factors(lifted)
    return sys.xp.linalg.svdvals(matmul(adjoint(left), right))


def hankel_norm(sys: LTI) -> Float[Array, "*batch"]:
    """max(hsv): the gain from past inputs to future outputs; infinite where a system is not stable.

    Same as pyMOR's ``LTIModel.hankel_norm``, for a batch.
    """
    check_system(sys, KINDS, "hankel_norm")
    safe, unstable = made_stable(in_double(sys))
    return infinite_where(unstable, hsv(safe)[..., 0])


def solve_stein(A: Inexact[Array, "*batch n n"], R: Inexact[Array, "*batch n n"]) -> Inexact[Array, "*batch n n"]:
    """X = A X A* + R: the sum of A^j R (A*)^j over all j >= 0, doubled in length at each step.

    Same as ``scipy.linalg.solve_discrete_lyapunov(A, R)``, for a batch; differentiable.

    Raises
    ------
    ValueError
        If an A is not stable: the sum diverges.

    References
    ----------
    Smith, SIAM J. Appl. Math. 16 (1968) 198-201.
    """
    _refuse(_unbounded(A), "solve_stein")
    return _stein_sum(A, R)


def dual(sys: S) -> S:
    """(A*, C*, B*, D*): inputs and outputs, and with them P and Q, change places."""
    rows, columns, through = adjoint(sys.C), adjoint(sys.B), adjoint(sys.D)
    if isinstance(sys, StateSpace):
        return replace(sys, A=adjoint(sys.A), B=rows, C=columns, D=through)
    return replace(sys, log_poles=conj(sys.log_poles), B=rows, C=columns, D=through)


def unstable(sys: LTI) -> Bool[Array, "*batch"]:
    """Whether some |lambda| >= 1: by the sign of Re(log lambda); for a full A, whether its powers stay away from 0."""
    return _unbounded(sys.A) if isinstance(sys, StateSpace) else sys.xp.any(real(stop_gradient(sys.log_poles)) >= 0, axis=-1)


def made_stable(sys: T) -> tuple[T, Bool[Array, "*batch"]]:
    """The batch with a stable stand-in for every unstable system, and which those are."""
    xp, mask = sys.xp, unstable(sys)
    if isinstance(sys, StateSpace):
        return replace(sys, A=xp.where(mask[..., None, None], xp.zeros_like(sys.A), sys.A)), mask
    return replace(sys, log_poles=xp.where(mask[..., None], -xp.ones_like(sys.log_poles), sys.log_poles)), mask


def infinite_where(mask: Bool[Array, "*batch"], x: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """The norm ``x`` of the stable systems, infinity for the others."""
    xp = array_namespace(x)
    return xp.where(mask, xp.full_like(x, math.inf), x)


def _stable(sys: LTI, caller: str) -> DiagonalSSM | StateSpace:
    """The system in 64 bits with all its states, if every system of the batch is stable."""
    check_system(sys, KINDS, caller)
    sys = in_double(sys)
    _refuse(unstable(sys), caller)
    return sys.expand() if isinstance(sys, RealDiagonalSSM) else sys


def _refuse(mask: Bool[Array, "*batch"], caller: str) -> None:
    mask = to_numpy(mask)
    if not mask.any():
        return
    entries = [tuple(int(i) for i in index) if len(index) > 1 else int(index[0]) for index in np.argwhere(mask)] if mask.ndim else []
    more = f" and {len(entries) - 5} more" if len(entries) > 5 else ""
    which = f"batch entries {', '.join(map(str, entries[:5]))}{more} are not" if entries else "this one is not"
    raise ValueError(
        f"{caller} needs stable systems, all |lambda| < 1, and {which}: the sum over A^k that defines the Gramian diverges there, "
        "so it does not exist; select the stable systems first (the norms of the others are infinite)"
    )


def _unbounded(A: Array) -> Bool[Array, "*batch"]:
    """Where A^(2^k) does not decay: exact up to the rounding of the products, which non-normal A can amplify."""
    xp, n = array_namespace(A), A.shape[-1]
    A = stop_gradient(A)
    mask = xp.zeros_like(real(A)[..., 0, 0]) > 0
    for _ in range(DOUBLINGS):
        size = xp.max(xp.abs(A), axis=(-2, -1))
        mask = mask | ~(size <= LARGE)
        A = xp.where((mask | (n * size <= NEGLIGIBLE))[..., None, None], xp.zeros_like(A), A)
        if not bool(xp.any(A != 0)):
            return mask
        A = xp.matmul(A, A)
    return mask | (xp.max(xp.abs(A), axis=(-2, -1)) > NEGLIGIBLE)


def _squares(A: Array) -> Iterator[Array]:
    """A, A^2, A^4, ... of stable A, until ||A^(2^k)||^2 is below the rounding of a sum that begins with 1."""
    xp = array_namespace(A)
    while bool(xp.any(xp.abs(stop_gradient(A)) * A.shape[-1] > NEGLIGIBLE)):
        yield A
        A = xp.matmul(A, A)


def _stein_sum(A: Array, R: Array) -> Array:
    for power in _squares(A):
        R = R + matmul(matmul(power, R), adjoint(power))
    return R


def _dense_factor(sys: StateSpace) -> Inexact[Array, "*batch n n"]:
    """[B, A B, A^2 B, ...] times a unitary matrix: doubled and reduced to n columns by QR, so that P is never squared.

    QR of singular matrices has no derivative; the gradient is that of L + (P - P0) L^{-*} / 2 at P0 = L L*, as
    dL L* + L dL* = dP.
    """
    xp, A, L = sys.xp, stop_gradient(sys.A), stop_gradient(sys.B) + 0 * stop_gradient(sys.A[..., :, :1])
    for power in _squares(A):
        L = _compressed(xp.concat([L, matmul(power, L)], axis=-1))
    L = _compressed(xp.concat([L, 0 * A], axis=-1))
    if stop_gradient(sys.B) is sys.B:  # the library has no gradients
        return L
    P = _stein_sum(sys.A, matmul(sys.B, adjoint(sys.B)))
    return L + matmul(P - stop_gradient(P), adjoint(xp.linalg.pinv(L))) / 2


def _compressed(L: Array) -> Array:
    """A factor of L L* with at most n columns."""
    n, columns = L.shape[-2:]
    return L if columns <= n else adjoint(array_namespace(L).linalg.qr(adjoint(L))[1])


def _diagonal_factor(sys: DiagonalSSM, scale: Float[Array, "*batch n"]) -> Array:
    """``scale`` multiplies the states for the choice of the pivots only."""
    if sys.ninputs == 1:
        return sys.B * orthogonal_functions(sys.log_poles, scale * sys.xp.abs(stop_gradient(sys.B[..., 0])))
    return multi_input_factor(sys.log_poles, sys.B, scale)


def _pair_product(sys: RealDiagonalSSM) -> Float[Array, "*batch k k"]:
    """L_Q^T L_P of the real system in real coordinates: Re sum_i (b c)_i psi_i psi_i^T over one of each pair."""
    psi = pair_functions(to_complex(sys.log_poles), _residue_size(sys))
    residue = sys.B * sys.xp.matrix_transpose(sys.C)
    left = residue * psi
    left = sys.xp.concat([real(left), -imag(left)], axis=-2)  # Re(X^T Y) as one real product of twice the inner size
    return sys.xp.matmul(sys.xp.matrix_transpose(left), sys.xp.concat([real(psi), imag(psi)], axis=-2))


def _residue_size(sys: DiagonalSSM | RealDiagonalSSM) -> Float[Array, "*batch n"]:
    """sqrt|b c|; tiny where it is 0, so that these states are pivots too, though last."""
    xp = sys.xp
    size = xp.sqrt(xp.abs(stop_gradient(sys.B[..., 0]))) * xp.sqrt(xp.abs(stop_gradient(sys.C[..., 0, :])))
    return xp.where(size == 0, xp.full_like(size, 1e-200), size)


def _balancing(sys: DiagonalSSM) -> Float[Array, "*batch n"]:
    """The scaling of the states that makes input and output rows equally large; 1 where one is 0."""
    xp = sys.xp
    b, c = xp.linalg.vector_norm(stop_gradient(sys.B), axis=-1), xp.linalg.vector_norm(stop_gradient(sys.C), axis=-2)
    zero = (b == 0) | (c == 0)
    one = xp.ones_like(b)
    return xp.where(zero, one, xp.sqrt(c) / xp.sqrt(xp.where(zero, one, b)))
