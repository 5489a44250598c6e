"""Eigenvalues together with what is needed to trust them: whose they are, how exact, how well conditioned."""

from dataclasses import dataclass

from jaxtyping import Float, Inexact

from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM
from ssm_analysis.xp import Array, real


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum:
    """Eigenvalues of a discrete A.

    Parameters
    ----------
    log_poles
        Their logarithms.
    condition
        Condition number ||V|| ||V^-1|| of the eigenvectors (Frobenius norm, unit columns, divided by n), dimensionless: a
        perturbation of A is amplified by up to this factor in the eigenvalues (Bauer and Fike, Numer. Math. 2 (1960)
        137-141). 1 for diagonal A.
    error
        Bound on the error of each eigenvalue, relative to it; 0 where they are exact functions of the parameters.
    matrix
        Which matrix they belong to, in words.
    one_of_each_pair
        Whether each complex eigenvalue stands for itself and its conjugate.
    """

    log_poles: Inexact[Array, "*batch n"]
    condition: Float[Array, "*batch"]
    error: float
    matrix: str
    one_of_each_pair: bool


def diagonal_spectrum(sys: DiagonalSSM | RealDiagonalSSM, *, one_of_each_pair: bool) -> Spectrum:
    """Of a diagonal system: its log-poles, which are exact functions of the parameters."""
    ones = 1 + 0 * real(sys.log_poles)[..., 0]
    matrix = "diagonal, exact from the parameters"
    return Spectrum(log_poles=sys.log_poles, condition=ones, error=0.0, matrix=matrix, one_of_each_pair=one_of_each_pair)
