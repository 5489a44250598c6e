r"""Hankel singular values, the gains from past inputs through the state to future outputs.

hsv = sqrt(eig(P Q)) = svd(L_Q* L_P)   with   P = L_P L_P*, Q = L_Q L_Q*.
"""

from jaxtyping import Float

from ssm_analysis.analyses.gramians.cauchy_factors import pair_functions
from ssm_analysis.analyses.gramians.factors import gramian_factors, residue_size
from ssm_analysis.analyses.gramians.stability import KINDS, all_stable, infinite_where, made_stable
from ssm_analysis.systems import LTI, RealDiagonalSSM
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, adjoint, imag, matmul, real, to_complex


def hsv(sys: LTI) -> Float[Array, "*batch n"]:
    r"""Return the Hankel singular values sqrt(eig(P Q)), decreasing.

    Same as ``control.hankel_singular_values``, which refuses discrete time, for a batch. For a diagonal system with one input
    and one output each value is accurate to its own size: L_Q* L_P = D M D with D diagonal and decreasing and M well
    conditioned, and both the Householder bidiagonalization and the dqds iteration that LAPACK uses for singular values alone
    respect such a grading.

    Parameters
    ----------
    sys
        A stable time-invariant system.

    Returns
    -------
    Array
        The values in the units of G, output per input. A `RealDiagonalSSM` has as many as its ``expand()`` has states.

    Raises
    ------
    ValueError
        If a system is not stable: its Gramians do not exist.

    References
    ----------
    Glover, Int. J. Control 39 (1984) 1115-1193 (Hankel singular values); Demmel et al., Linear Algebra Appl. 299 (1999) 21-80
    (singular values of graded matrices).

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)
    >>> hsv(sys).round(6)
    array([1.333333])
    """
    whole = all_stable(sys, "hsv")
    if isinstance(sys, RealDiagonalSSM) and sys.ninputs == sys.noutputs == 1 and whole.nstates == 2 * sys.nstates:
        return sys.xp.linalg.svdvals(_pair_product(in_double(sys)))
    left, right = gramian_factors(whole)
    return sys.xp.linalg.svdvals(matmul(adjoint(left), right))


def hankel_norm(sys: LTI) -> Float[Array, "*batch"]:
    """Return the Hankel norm max(hsv), the gain from past inputs to future outputs; infinite where a system is not stable.

    Same as pyMOR's ``LTIModel.hankel_norm``, for a batch.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The norm of each system, in the units of G, output per input.

    References
    ----------
    Glover, Int. J. Control 39 (1984) 1115-1193.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> float(hankel_norm(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)).round(6))
    1.333333
    """
    check_system(sys, KINDS, "hankel_norm")
    safe, unstable = made_stable(in_double(sys))
    return infinite_where(unstable, hsv(safe)[..., 0])


def _pair_product(sys: RealDiagonalSSM) -> Float[Array, "*batch k k"]:
    """Return L_Q^T L_P of the real system in real coordinates: Re sum_i (b c)_i psi_i psi_i^T over one mode of each pair."""
    psi = pair_functions(to_complex(sys.log_poles), residue_size(sys))
    residue = sys.B * sys.xp.matrix_transpose(sys.C)
    left = residue * psi
    left = sys.xp.concat([real(left), -imag(left)], axis=-2)  # Re(X^T Y) as one real product of twice the inner size
    return sys.xp.matmul(sys.xp.matrix_transpose(left), sys.xp.concat([real(psi), imag(psi)], axis=-2))
