r"""Factors of the Gramians, P = L_P L_P* and Q = L_Q L_Q*.

The factor, not the Gramian, is the primitive: a Gramian holds nothing below eps times its largest eigenvalue, while
the factor of a diagonal system is accurate entry by entry (see `cauchy_factors`).
"""

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.gramians.cauchy_factors import multi_input_factor, orthogonal_functions
from ssm_analysis.analyses.gramians.gramians import dual, stein_sum
from ssm_analysis.analyses.gramians.stability import all_stable, squares
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import Array, adjoint, array_namespace, conj, matmul, real, stop_gradient


def controllability_factor(sys: LTI) -> Inexact[Array, "*batch n n"]:
    """Return a factor L of the controllability Gramian, P = L L*.

    Same as ``control.gram(sys, "cf")`` up to a unitary factor, for a batch. For a diagonal system L has n columns of
    decreasing weight, every entry accurate to its own size (with one input; to the size of its row otherwise), and
    zero columns where P loses rank.

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer is the factor of its ``expand()``.

    Returns
    -------
    Array
        L of each system, in units of the state.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramian does not exist.

    References
    ----------
    The closed form for diagonal systems is derived in `cauchy_factors`; a full A is doubled as in Smith, SIAM J. Appl. Math. 16
    (1968) 198-201.

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import controllability_factor
    >>> one = np.ones((1, 1))
    >>> controllability_factor(DiagonalSSM(log_poles=np.log([0.6]), B=one, C=one, D=0 * one)).round(6)  # 1 / sqrt(1 - 0.36)
    array([[1.25]])
    """
    sys = all_stable(sys, "controllability_factor")
    return _dense_factor(sys) if isinstance(sys, StateSpace) else _diagonal_factor(sys, sys.xp.ones_like(real(sys.log_poles)))


def observability_factor(sys: LTI) -> Inexact[Array, "*batch n n"]:
    """Return a factor L of the observability Gramian, Q = L L*.

    As accurate as `controllability_factor`, which it is for the dual system (A*, C*, B*, D*).

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer is the factor of its ``expand()``.

    Returns
    -------
    Array
        L of each system.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramian does not exist.

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import observability_factor
    >>> one = np.ones((1, 1))
    >>> observability_factor(DiagonalSSM(log_poles=np.log([0.6]), B=one, C=2 * one, D=0 * one)).round(6)  # 2 / sqrt(1 - 0.36)
    array([[2.5]])
    """
    return controllability_factor(dual(all_stable(sys, "observability_factor")))


def gramian_factors(sys: LTI) -> tuple[Inexact[Array, "*batch n n"], Inexact[Array, "*batch n n"]]:
    """Return (L_P, L_Q) with columns so ordered that L_Q* L_P is graded, largest entries first: what `hsv` and reduction need.

    As `controllability_factor` and `observability_factor`, except that the pivots do not depend on the scaling of the
    states: they are those of states with equal input and output rows. With one input and one output both factors
    then share their pivots, and svd(L_Q* L_P) is accurate to the size of each singular value.

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer belongs to its ``expand()``.

    Returns
    -------
    tuple
        L_P and L_Q with P = L_P L_P* and Q = L_Q L_Q*.

    Raises
    ------
    ValueError
        If a system is not stable: the Gramians do not exist.

    References
    ----------
    Tombs, Postlethwaite, Int. J. Control 46 (1987) 1319-1330 (balancing by factors); the pivots are derived in `cauchy_factors`.

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import gramian_factors
    >>> one = np.ones((1, 1))
    >>> right, left = gramian_factors(DiagonalSSM(log_poles=np.log([0.6]), B=one, C=2 * one, D=0 * one))
    >>> (left * right).round(6)  # 2 / (1 - 0.36), the Hankel singular value
    array([[3.125]])
    """
    sys = all_stable(sys, "gramian_factors")
    if isinstance(sys, StateSpace):
        return _dense_factor(sys), _dense_factor(dual(sys))
    if sys.ninputs == sys.noutputs == 1:
        c = sys.xp.matrix_transpose(sys.C)
        functions = orthogonal_functions(sys.log_poles, residue_size(sys))
        return sys.B * functions, conj(c * functions)
    scale = _balancing(sys)
    return _diagonal_factor(sys, scale), _diagonal_factor(dual(sys), 1 / scale)


def residue_size(sys: DiagonalSSM | RealDiagonalSSM) -> Float[Array, "*batch n"]:
    """Return sqrt|b c| of each mode; a tiny number where it is 0, so that these states are pivots too, though last."""
    xp = sys.xp
    size = xp.sqrt(xp.abs(stop_gradient(sys.B[..., 0]))) * xp.sqrt(xp.abs(stop_gradient(sys.C[..., 0, :])))
    return xp.where(size == 0, xp.full_like(size, 1e-200), size)


def _dense_factor(sys: StateSpace) -> Inexact[Array, "*batch n n"]:
    """Return [B, A B, A^2 B, ...] times a unitary matrix: doubled and reduced to n columns by QR, so that P is never squared.

    QR of singular matrices has no derivative; the gradient is that of L + (P - P0) L^{-*} / 2 at P0 = L L*, as
    dL L* + L dL* = dP.
    """
    xp, A, L = sys.xp, stop_gradient(sys.A), stop_gradient(sys.B) + 0 * stop_gradient(sys.A[..., :, :1])
    for power in squares(A):
        L = _compressed(xp.concat([L, matmul(power, L)], axis=-1))
    L = _compressed(xp.concat([L, 0 * A], axis=-1))
    if stop_gradient(sys.B) is sys.B:  # the library has no gradients
        return L
    P = stein_sum(sys.A, matmul(sys.B, adjoint(sys.B)))
    return L + matmul(P - stop_gradient(P), adjoint(xp.linalg.pinv(L))) / 2


def _compressed(L: Inexact[Array, "*batch n k"]) -> Inexact[Array, "*batch n k2"]:
    """Return a factor of L L* with at most n columns."""
    n, columns = L.shape[-2:]
    return L if columns <= n else adjoint(array_namespace(L).linalg.qr(adjoint(L))[1])


def _diagonal_factor(sys: DiagonalSSM, scale: Float[Array, "*batch n"]) -> Inexact[Array, "*batch n n"]:
    """Return the closed-form factor of P; ``scale`` multiplies the states for the choice of the pivots only."""
    if sys.ninputs == 1:
        return sys.B * orthogonal_functions(sys.log_poles, scale * sys.xp.abs(stop_gradient(sys.B[..., 0])))
    return multi_input_factor(sys.log_poles, sys.B, scale)


def _balancing(sys: DiagonalSSM) -> Float[Array, "*batch n"]:
    """Return the scaling of the states that makes input and output rows equally large; 1 where one of them is 0."""
    xp = sys.xp
    b, c = xp.linalg.vector_norm(stop_gradient(sys.B), axis=-1), xp.linalg.vector_norm(stop_gradient(sys.C), axis=-2)
    zero = (b == 0) | (c == 0)
    one = xp.ones_like(b)
    return xp.where(zero, one, xp.sqrt(c) / xp.sqrt(xp.where(zero, one, b)))
