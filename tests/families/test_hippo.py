"""The HiPPO matrices: against their published formulas, and the splitting into normal and low-rank parts."""

import mpmath
import numpy as np
import pytest

from ssm_analysis.families.shared.hippo import MEASURES, exact_entries, hippo, normal_part

SIZES = (2, 4, 6, 16, 64)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("measure", MEASURES)
def test_normal_part_is_skew_symmetric_up_to_its_diagonal(measure, n):
    A, _, P = hippo(measure, n)
    S = A + P @ P.T
    center = {"legs": -0.5, "legt": 0.0, "fout": 0.0}[measure]
    np.testing.assert_allclose(S + S.T, 2 * center * np.eye(n), atol=1e-13 * n)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("measure", MEASURES)
def test_eigenvectors_and_their_conjugates_diagonalize_the_normal_part(measure, n):
    A, _, P = hippo(measure, n)
    lam, V = normal_part(measure, n)
    assert lam.shape == (n // 2,)
    assert np.all(lam.imag <= 0)
    assert np.all(np.diff(-lam.imag) >= 0)
    whole, values = np.concatenate([V, V.conj()], axis=1), np.concatenate([lam, lam.conj()])
    np.testing.assert_allclose(whole.conj().T @ whole, np.eye(n), atol=1e-12)
    np.testing.assert_allclose(whole @ np.diag(values) @ whole.conj().T, A + P @ P.T, atol=1e-15 * n * n)


def test_legs_is_theorem_1_of_the_s4_paper():
    A, B, P = hippo("legs", 4)
    below = -np.sqrt([[0, 0, 0, 0], [3, 0, 0, 0], [5, 15, 0, 0], [7, 21, 35, 0]])
    np.testing.assert_allclose(A, below - np.diag([1, 2, 3, 4]), rtol=1e-15)
    np.testing.assert_allclose(B, np.sqrt([1, 3, 5, 7]), rtol=1e-15)
    np.testing.assert_allclose(P[:, 0], np.sqrt([0.5, 1.5, 2.5, 3.5]), rtol=1e-15)


def test_legt_projects_on_shifted_legendre_polynomials():
    """x' = A x + B u keeps x_n(t) = sqrt(2n+1)/2 int_{t-2}^t P_n(1 + s - t) u(s) ds for u that is a polynomial of degree < N - 1.

    Then the value u(t - 2) that the window loses is sum_n (-1)^n sqrt(2n+1) x_n exactly, which is what A puts in its place.
    """
    n, t, h = 8, 0.7, 1e-4
    A, B, _ = hippo("legt", n)
    node, weight = np.polynomial.legendre.leggauss(30)

    def u(s):
        return 0.3 - s + 2 * s**2 - 0.4 * s**5

    def state(t):
        P = np.stack([np.polynomial.legendre.Legendre.basis(k)(node) for k in range(n)])
        return np.sqrt(2 * np.arange(n) + 1) / 2 * (P @ (weight * u(t - 1 + node)))

    derivative = (state(t + h) - state(t - h)) / (2 * h)
    np.testing.assert_allclose(A @ state(t) + B * u(t), derivative, atol=1e-6)


def test_fout_projects_on_sines_and_cosines():
    """x(t) = a int_{t-2}^t (cos, sin)(pi k (t - s)) u(s) ds.

    While u = 0 at both edges of the window, x only rotates: x' = (A + P P^T) x.
    """
    n, t, h = 6, 2.0, 1e-5
    A, B, P = hippo("fout", n)
    np.testing.assert_array_equal(P[:, 0], B)
    s = np.linspace(0, 4, 400001)
    bump = np.where((s > 0.6) & (s < 1.4), np.sin(np.pi * (s - 0.6) / 0.8) ** 4, 0.0)

    def state(t):
        inside = (s >= t - 2) & (s <= t)
        lag = t - s[inside]
        basis = np.stack([f(np.pi * k * lag) for k in range(n // 2) for f in (np.cos, np.sin)])
        size = np.where(np.arange(n) < 2, 1.0, np.sqrt(2))
        return size * (basis @ bump[inside]) * (s[1] - s[0])

    derivative = (state(t + h) - state(t - h)) / (2 * h)
    np.testing.assert_allclose((A + P @ P.T) @ state(t), derivative, atol=1e-5)
    np.testing.assert_allclose(A[1], 0.0)  # the sine of frequency 0: a state that nothing drives
    np.testing.assert_allclose(A[:, 1], 0.0)


@pytest.mark.parametrize("measure", MEASURES)
def test_entries_in_any_precision_agree_with_the_doubles(measure):
    F, G, M = (x.tolist() for x in exact_entries(measure, 6))
    with mpmath.workdps(40):
        exact = [[float(mpmath.pi * f + g * mpmath.sqrt(m) / 2) for f, g, m in zip(*row, strict=True)] for row in zip(F, G, M, strict=True)]
    np.testing.assert_allclose(hippo(measure, 6)[0], exact, rtol=1e-15)


@pytest.mark.parametrize(
    ("measure", "n", "match"), [("lagt", 4, "legs, legt, fout.*'lagt'"), ("legs", 3, "even"), ("legs", 0, "at least 2")]
)
def test_bad_input(measure, n, match):
    with pytest.raises(ValueError, match=match):
        hippo(measure, n)
