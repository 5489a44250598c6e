r"""Controllability and observability Gramians, and the Stein equation that they solve.

    P = A P A* + B B*,   Q = A* Q A + C* C.

References
----------
Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 4.3 (Gramians in discrete time).
"""

from dataclasses import replace
from typing import TypeVar

from jaxtyping import Inexact

from ssm_analysis.analyses.gramians.stability import all_stable, check_none, squares, unbounded
from ssm_analysis.systems import LTI, DiagonalSSM, StateSpace
from ssm_analysis.xp import Array, adjoint, conj, expm1, matmul

S = TypeVar("S", bound=DiagonalSSM | StateSpace)


def controllability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""Return the controllability Gramian P = sum_k A^k B B* (A*)^k, the solution of P = A P A* + B B*.

    Same as ``control.gram(sys, "c")`` for a discrete system, for a batch. Where A is diagonal, P is B B* / (1 - l conj(l')),
    each entry in closed form.

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer is the Gramian of its ``expand()``.

    Returns
    -------
    Array
        P of each system: Hermitian, positive semidefinite, in squared units of the state.

    Raises
    ------
    ValueError
        If a system is not stable: the sum diverges and the Gramian does not exist.

    References
    ----------
    Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 4.3.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> controllability_gramian(sys).round(6)
    array([[1.333333]])
    """
    sys = all_stable(sys, "controllability_gramian")
    weight = matmul(sys.B, adjoint(sys.B))
    if isinstance(sys, StateSpace):
        return stein_sum(sys.A, weight)
    return weight / -expm1(sys.log_poles[..., :, None] + conj(sys.log_poles)[..., None, :])


def observability_gramian(sys: LTI) -> Inexact[Array, "*batch n n"]:
    r"""Return the observability Gramian Q = sum_k (A*)^k C* C A^k, the solution of Q = A* Q A + C* C.

    Same as ``control.gram(sys, "o")`` for a discrete system, for a batch.

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer is the Gramian of its ``expand()``.

    Returns
    -------
    Array
        Q of each system: x* Q x is the energy of the output that starts from the state x without input.

    Raises
    ------
    ValueError
        If a system is not stable: the sum diverges and the Gramian does not exist.

    References
    ----------
    Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 4.3.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=2 * one, D=0 * one)
    >>> observability_gramian(sys).round(6)
    array([[5.333333]])
    """
    return controllability_gramian(dual(all_stable(sys, "observability_gramian")))


def solve_stein(A: Inexact[Array, "*batch n n"], R: Inexact[Array, "*batch n n"]) -> Inexact[Array, "*batch n n"]:
    """Solve X = A X A* + R: sum A^j R (A*)^j over all j >= 0, in sums that double in length at each step.

    Same as ``scipy.linalg.solve_discrete_lyapunov(A, R)``, for a batch; differentiable.

    Parameters
    ----------
    A
        Square matrices with all |lambda| < 1.
    R
        The constant term, one matrix for each A.

    Returns
    -------
    Array
        The solution X of each equation.

    Raises
    ------
    ValueError
        If an A is not stable: the sum diverges.

    References
    ----------
    Smith, SIAM J. Appl. Math. 16 (1968) 198-201.

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import solve_stein
    >>> solve_stein(np.array([[0.5]]), np.array([[3.0]])).round(6)  # 3 / (1 - 1/4)
    array([[4.]])
    """
    check_none(unbounded(A), "solve_stein")
    return stein_sum(A, R)


def stein_sum(A: Inexact[Array, "*batch n n"], R: Inexact[Array, "*batch n n"]) -> Inexact[Array, "*batch n n"]:
    """Return the solution of X = A X A* + R for A that are known to be stable; see `solve_stein`."""
    for power in squares(A):
        R = R + matmul(matmul(power, R), adjoint(power))
    return R


def dual(sys: S) -> S:
    """Return the dual system (A*, C*, B*, D*), in which inputs and outputs, and with them P and Q, have changed places."""
    rows, columns, through = adjoint(sys.C), adjoint(sys.B), adjoint(sys.D)
    if isinstance(sys, StateSpace):
        return replace(sys, A=adjoint(sys.A), B=rows, C=columns, D=through)
    return replace(sys, log_poles=conj(sys.log_poles), B=rows, C=columns, D=through)
