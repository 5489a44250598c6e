r"""The HiPPO matrices behind S4, S4D-LegS and S5, and how they split into a normal and a low-rank part.

Each measure defines a system x' = A x + B u whose state holds the coefficients of the past of u in an orthogonal basis.
A + P P^T is normal: it is skew-symmetric, for LegS after adding half the identity.

====  =======================================================  =========
name  basis, weight of the past                                rank of P
====  =======================================================  =========
legs  Legendre polynomials, uniform over all of the past       1
legt  Legendre polynomials, uniform over a sliding window      2
fout  truncated Fourier series over a sliding window           1
====  =======================================================  =========

The matrices are those of the S4 implementation (state-spaces/s4, ``transition`` and ``rank_correction``), where a
window of legt and fout is two units of time long. State 1 of fout is the sine of frequency 0: nothing drives it,
and it leaves A an eigenvalue of exactly 0.

References
----------
Gu, Dao, Ermon, Rudra, Re, HiPPO, arXiv 2008.07669; Gu, Goel, Re, S4, arXiv 2111.00396, Theorem 1 and appendix B;
Gu, Johnson, Timalsina, Rudra, Re, arXiv 2206.12037 (FouT).
"""

import numpy as np
from jaxtyping import Complex, Float, Int

MEASURES = ("legs", "legt", "fout")


def hippo(measure: str, n: int) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"], Float[np.ndarray, "n r"]]:
    """Return the HiPPO matrices (A, B, P) of a measure; A + P P^T is normal.

    Parameters
    ----------
    measure
        ``legs``, ``legt`` or ``fout``.
    n
        Number of states, even.

    Returns
    -------
    tuple
        A of shape (n, n), B of shape (n,) and P of shape (n, r), with r the rank of the table above.

    Raises
    ------
    ValueError
        If the measure is unknown, or ``n`` is not even and positive.

    References
    ----------
    Gu, Goel, Re, arXiv 2111.00396, Theorem 1 and appendix B.

    Examples
    --------
    >>> from ssm_analysis.families.shared.hippo import hippo
    >>> A, B, P = hippo("legs", 2)
    >>> A.round(3)
    array([[-1.   ,  0.   ],
           [-1.732, -2.   ]])
    """
    F, G, M = exact_entries(measure, n)
    A = np.pi * F + G * np.sqrt(M) / 2
    k = np.arange(n)
    if measure == "fout":
        B = np.sqrt(_fourier_squares(n))
        return A, B, B[:, None]
    R = np.sqrt(2.0 * k + 1)
    if measure == "legs":
        return A, R, np.sqrt(k + 0.5)[:, None]
    odd = k % 2 == 1
    return A, R / 2, np.sqrt(k[:, None] + 0.5) * np.stack([odd, ~odd], axis=1)


def exact_entries(measure: str, n: int) -> tuple[Int[np.ndarray, "n n"], Int[np.ndarray, "n n"], Int[np.ndarray, "n n"]]:
    """Return integer matrices (F, G, M) with A = pi F + G sqrt(M) / 2 entry by entry, which define A in any precision."""
    check_measure(measure, n)
    return {"legs": _legs, "legt": _legt, "fout": _fout}[measure](n)


def normal_part(measure: str, n: int) -> tuple[Complex[np.ndarray, " h"], Complex[np.ndarray, "n h"]]:
    """Return the eigenvalues, Im <= 0, and orthonormal eigenvectors V of A + P P^T, one of each conjugate pair: h = n/2.

    [V, conj V] is unitary and diagonalizes A + P P^T. The frequencies are the eigenvalues of a Hermitian matrix,
    the real part is the mean of the diagonal, and |Im| ascends. For fout this function writes both down in closed form,
    because LAPACK may return any basis for the double eigenvalue 0.
    """
    A, _, P = hippo(measure, n)
    if measure == "fout":
        return -1j * np.pi * np.arange(n // 2), np.kron(np.eye(n // 2), np.asarray([[1], [1j]])) / np.sqrt(2)
    S = A + P @ P.T
    w, V = np.linalg.eigh(-0.5j * (S - S.T))
    return np.mean(np.diag(S)) + 1j * w[: n // 2][::-1], V[:, : n // 2][:, ::-1]


def check_measure(measure: str, n: int) -> None:
    """Raise a ValueError unless ``measure`` is known and ``n`` even and positive."""
    if measure not in MEASURES:
        raise ValueError(f"the HiPPO measure must be one of {', '.join(MEASURES)}, got {measure!r}")
    if n < 2 or n % 2:
        raise ValueError(f"d_state must be even and at least 2, because modes are kept in conjugate pairs, got {n}")


def _legs(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries of LegS: -sqrt((2i+1)(2j+1)) below the diagonal, -(i+1) on it."""
    i, j = np.indices((n, n))
    M = np.where(i == j, (i + 1) ** 2, (2 * i + 1) * (2 * j + 1))
    return 0 * M, np.where(i >= j, -2, 0), M


def _legt(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries of LegT: -sqrt((2i+1)(2j+1))/2, with the sign (-1)^(i-j) above the diagonal."""
    i, j = np.indices((n, n))
    M = (2 * i + 1) * (2 * j + 1)
    return 0 * M, np.where((i < j) & ((j - i) % 2 == 1), 1, -1), M


def _fout(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the entries of FouT: rotations [[0, -pi k], [pi k, 0]] minus b b^T."""
    rotations = np.kron(np.diag(np.arange(n // 2)), np.asarray([[0, -1], [1, 0]]))
    squares = _fourier_squares(n)
    return rotations, np.full((n, n), -2), np.outer(squares, squares)


def _fourier_squares(n: int) -> Int[np.ndarray, " n"]:
    """Return the squares of the entries of b = (1, 0, sqrt 2, 0, sqrt 2, 0, ...)."""
    squares = np.where(np.arange(n) % 2 == 0, 2, 0)
    squares[0] = 1
    return squares
