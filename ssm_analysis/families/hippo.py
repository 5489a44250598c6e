r"""The HiPPO matrices behind S4, S4D-LegS and S5, and their splitting into a normal part and a low-rank part.

Each measure gives x' = A x + B u for projecting the past of u on an orthogonal basis, and A + P P^T is normal:

====  =======================================================  =========
name  basis, weight of the past                                rank of P
====  =======================================================  =========
legs  Legendre polynomials, uniform over all of the past       1
legt  Legendre polynomials, uniform over a sliding window      2
fout  truncated Fourier series over a sliding window           1
====  =======================================================  =========

References
----------
Gu, Dao, Ermon, Rudra, Re, HiPPO, arXiv 2008.07669; Gu, Goel, Re, S4, arXiv 2111.00396, Theorem 1 and appendix B;
Gu, Johnson, Timalsina, Rudra, Re, arXiv 2206.12037 (FouT).
"""

import numpy as np
from jaxtyping import Complex, Float

MEASURES = ("legs", "legt", "fout")


def hippo(measure: str, n: int) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, " n"], Float[np.ndarray, "n r"]]:
    """(A, B, P) of a measure; A + P P^T is normal."""
    check_measure(measure, n)
    return {"legs": _legs, "legt": _legt, "fout": _fout}[measure](n)


def normal_part(measure: str, n: int) -> tuple[Complex[np.ndarray, " h"], Complex[np.ndarray, "n h"]]:
    """Eigenvalues, Im <= 0, and orthonormal eigenvectors of A + P P^T: one of each conjugate pair, h = n/2.

    The matrix is the sum of a skew-symmetric matrix and a small diagonal, so its frequencies are the eigenvalues of
    a Hermitian matrix, computed to full accuracy. The real part is the mean of the diagonal. Ascending in |Im|.
    """
    A, _, P = hippo(measure, n)
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
    k = np.arange(n, dtype=np.float64)
    B = np.sqrt(2 * k + 1)
    A = -np.tril(np.outer(B, B), -1) - np.diag(k + 1)
    return A, B, np.sqrt(k + 0.5)[:, None]


def _legt(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    k = np.arange(n)
    R = np.sqrt(2.0 * k + 1)
    sign = np.where(k[:, None] < k[None, :], (-1.0) ** (k[:, None] - k[None, :]), 1.0)
    even = np.where(k % 2 == 0, R, 0.0) / np.sqrt(2)
    odd = np.where(k % 2 == 1, R, 0.0) / np.sqrt(2)
    return -sign * np.outer(R, R) / 2, R / 2, np.stack([even, odd], axis=1)


def _fout(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frequencies = np.stack([np.zeros(n // 2), np.arange(n // 2)], axis=-1).reshape(-1)[1:]
    A = np.pi * (np.diag(frequencies, 1) - np.diag(frequencies, -1))
    B = np.zeros(n)
    B[0::2] = np.sqrt(2)
    B[0] = 1
    return A - np.outer(B, B), B, B[:, None]
