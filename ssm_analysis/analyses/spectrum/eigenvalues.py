"""Eigenvalues together with what is needed to trust them: whose they are, how exact, how well conditioned."""

from dataclasses import dataclass

from jaxtyping import Float, Inexact

from ssm_analysis.xp import Array, real


@dataclass(frozen=True, eq=False, kw_only=True)
class Spectrum:
    """Eigenvalues of a discrete A.

    Parameters
    ----------
    log_poles
        Their logarithms.
    condition
        Condition number ||V||_F ||V^-1||_F of the eigenvectors, unit columns, dimensionless: n for orthonormal ones, as of
        diagonal A, infinite where eigenvalues coincide and no bound is known. A perturbation of A is amplified in the
        eigenvalues by up to this factor (Bauer and Fike, Numer. Math. 2 (1960) 137-141).
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


def diagonal_spectrum(log_poles: Inexact[Array, "*batch n"], *, one_of_each_pair: bool) -> Spectrum:
    """Return the spectrum of a diagonal A, whose log-poles are exact functions of the parameters.

    Parameters
    ----------
    log_poles
        Logarithms of the entries on the diagonal.
    one_of_each_pair
        Whether each complex entry stands for itself and its conjugate.

    Examples
    --------
    >>> from ssm_analysis.analyses.spectrum.eigenvalues import diagonal_spectrum
    >>> float(diagonal_spectrum(np.log([0.5, 0.9]), one_of_each_pair=False).condition)
    2.0
    """
    condition = log_poles.shape[-1] + 0 * real(log_poles)[..., 0]
    matrix = "diagonal, exact from the parameters"
    return Spectrum(log_poles=log_poles, condition=condition, error=0.0, matrix=matrix, one_of_each_pair=one_of_each_pair)
