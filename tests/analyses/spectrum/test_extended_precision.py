"""Enclosed eigenvalues: against matrices whose eigenvalues are known exactly, numpy and mpmath."""

import subprocess
import sys

import flint
import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from ssm_analysis.analyses.spectrum.extended_precision import bilinear_log_pole, eigenvalues, enclose_eigenvalues, exact_matrix, nearest


def matched_error(found, wanted):
    """Largest distance between the two sets, paired as well as possible."""
    cost = np.abs(np.asarray(found)[:, None] - np.asarray(wanted)[None, :])
    return np.max(cost[linear_sum_assignment(cost)])


def integer_matrix(rng, n, size=3):
    """An integer matrix with the eigenvalues -1, ..., -n: T diag(-1, ..., -n) T^{-1} with an integer T of determinant 1."""
    L = np.eye(n, dtype=object) + np.tril(rng.integers(-size, size + 1, (n, n)), -1)
    U = np.eye(n, dtype=object) + np.triu(rng.integers(-size, size + 1, (n, n)), 1)

    def inverse(T):  # nilpotent series, exact in Python's integers
        N, term, total = np.eye(n, dtype=object) - T, np.eye(n, dtype=object), np.zeros((n, n), dtype=object)
        for _ in range(n):
            total, term = total + term, term.dot(N)
        return total

    return L.dot(U).dot(np.diag(-np.arange(1, n + 1)).astype(object)).dot(inverse(U)).dot(inverse(L))


def as_balls(A):
    return lambda: flint.arb_mat([[flint.arb(int(x)) for x in row] for row in A])


@pytest.mark.parametrize("n", [4, 12, 20])
def test_contains_integer_eigenvalues_that_float64_misses(rng, n):
    A = integer_matrix(rng, n)
    found = enclose_eigenvalues(as_balls(A))
    assert all(ball.contains(-k) for k, ball in enumerate(found.balls, start=1))
    np.testing.assert_array_equal(found.values, -np.arange(1.0, n + 1))
    if n == 20:
        assert matched_error(np.linalg.eigvals(A.astype(np.float64)), -np.arange(1.0, n + 1)) > 0.1


@pytest.mark.parametrize("n", [6, 12, 20])
def test_precision_rises_until_every_eigenvalue_has_19_digits(rng, n):
    A = integer_matrix(rng, n)
    found = enclose_eigenvalues(as_balls(A), ladder=range(40, 400, 8))
    assert 64 < found.bits < 392
    assert all(ball.contains(-k) and ball.rad() < 1e-19 * k for k, ball in enumerate(found.balls, start=1))


@given(n=st.integers(1, 9), seed=st.integers(0, 2**16), real=st.booleans())
def test_equal_to_numpy_where_numpy_is_good(n, seed, real):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n)) + (0 if real else 1j * rng.standard_normal((n, n)))
    found = eigenvalues(A)
    w, V = np.linalg.eig(A)
    assert matched_error(found.values, w) < 1e-13 * found.condition * max(1, np.linalg.norm(A))
    np.testing.assert_allclose(found.condition, np.linalg.norm(V) * np.linalg.norm(np.linalg.inv(V)), rtol=1e-8)


@given(n=st.integers(1, 8), seed=st.integers(0, 2**16))
def test_of_a_real_matrix_are_closed_under_conjugation_and_sorted(n, seed):
    found = eigenvalues(np.random.default_rng(seed).standard_normal((n, n))).values
    np.testing.assert_array_equal(np.sort_complex(found), np.sort_complex(found.conj()))
    assert np.all(np.diff(found.real) <= 0)
    upper = np.flatnonzero(found.imag > 0)
    np.testing.assert_array_equal(found[upper + 1], found[upper].conj())


def test_conditions_are_those_of_the_transpose_and_do_not_see_scale(rng):
    A = rng.standard_normal((6, 6))
    found = eigenvalues(A)
    np.testing.assert_allclose(eigenvalues(A.T).conditions, found.conditions, rtol=1e-12)
    np.testing.assert_allclose(eigenvalues(-4 * A).conditions, found.conditions[::-1], rtol=1e-12)


def test_normal_matrices_have_condition_1(rng):
    Q = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    np.testing.assert_allclose(eigenvalues(Q).conditions, 1, atol=1e-12)


def test_conditions_predict_first_order_movement(rng):
    """|d lambda| <= kappa |dA|, with equality for dA = conj(l) conj(r)^T."""
    A = np.asarray([[-1.0, 1e4], [0.0, -2.0]])
    kappa = eigenvalues(A).conditions[0]
    left, right = np.asarray([1.0, 1e4]), np.asarray([1.0, 0.0])
    dA = 1e-12 * np.outer(left, right) / np.linalg.norm(left)
    moved = abs(eigenvalues(A + dA).values[0] + 1)
    np.testing.assert_allclose(moved, kappa * 1e-12, rtol=1e-3)


def test_complex_matrix_against_mpmath(rng):
    A = np.triu(np.full((16, 16), 3.0), 1) + np.diag(0.1 * np.arange(16)) + 1e-9j * rng.standard_normal((16, 16))
    with mpmath.workdps(80):
        exact = [complex(x) for x in mpmath.eig(mpmath.matrix(A.tolist()), left=False, right=False)]
    found = eigenvalues(A)
    assert matched_error(found.values, exact) < 1e-15
    assert matched_error(np.linalg.eigvals(A), exact) > 1e-12


def test_multiple_eigenvalues_with_all_eigenvectors(rng):
    found = eigenvalues(np.diag([-1.0, -2.0, -2.0]))
    np.testing.assert_array_equal(found.values, [-1, -2, -2])
    assert found.condition == np.inf  # no bound: no eigenvector belongs to -2 alone


@pytest.mark.parametrize("n", [2, 5, 16])
def test_defective_matrices_are_refused(rng, n):
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    T = exact_matrix(np.diag(np.full(n, -1.0)) + np.diag(np.ones(n - 1), 1))
    with pytest.raises(ValueError, match=r"could not be enclosed with 1024 bits.*multiple eigenvalue.*pseudospectrum"):
        enclose_eigenvalues(lambda: exact_matrix(Q) * T * exact_matrix(Q).inv())


def test_nearly_defective_matrices_are_not():
    found = eigenvalues(np.asarray([[-1.0, 1.0], [1e-100, -1.0]]))
    np.testing.assert_array_equal(found.values, [-1, -1])
    np.testing.assert_allclose(found.condition, 1e50, rtol=1e-12)  # kappa of +-sqrt(e) in [[0, 1], [e, 0]] is (1 + e) / (2 sqrt(e))
    assert not found.balls[0].overlaps(found.balls[1])


def test_zero_is_exactly_zero():
    np.testing.assert_array_equal(eigenvalues(np.asarray([[0.0, 1.0], [-1.0, 0.0]])).values, [1j, -1j])
    np.testing.assert_array_equal(eigenvalues(np.asarray([[1.0, 2.0], [0.5, 1.0]])).values, [2, 0])


@pytest.mark.parametrize(("a", "delta"), [(-0.5 + 3j, 0.1), (-2e-12 + 40j, 0.05), (-1.0, 0.5), (-64.0, 0.1), (1.0, 0.3)])
def test_bilinear_log_pole_against_mpmath(a, delta):
    with mpmath.workdps(50):
        w = mpmath.mpf(delta) * mpmath.mpmathify(a) / 2
        exact = mpmath.log((1 + w) / (1 - w))
        with flint.ctx.workprec(200):
            found = nearest(bilinear_log_pole(flint.acb(a), flint.arb(delta)))
        np.testing.assert_allclose([found.real, found.imag], [float(exact.real), float(exact.imag)], rtol=1e-15)


def test_bilinear_log_pole_at_its_singular_points():
    assert bilinear_log_pole(flint.acb(-8), flint.arb(0.25)) is None
    with pytest.raises(ValueError, match=r"I - delta A / 2 to be invertible, but delta A has the eigenvalue 2, delta = 0.25"):
        bilinear_log_pole(flint.acb(8), flint.arb(0.25))


@pytest.mark.parametrize("A", [np.zeros((2, 3)), np.zeros((0, 0)), np.asarray([[np.nan]]), np.zeros(3)])
def test_bad_input(A):
    with pytest.raises((ValueError, TypeError)) as error:
        eigenvalues(A)
    if A.ndim == 2 and A.shape[0] == A.shape[1]:
        assert "square matrix of finite numbers" in str(error.value)


def test_working_precision_is_restored(rng):
    before = flint.ctx.prec
    eigenvalues(rng.standard_normal((3, 3)))
    assert flint.ctx.prec == before


def test_import_does_not_load_flint():
    modules = "ssm_analysis.analyses.spectrum.extended_precision, ssm_analysis.families.s4.model"
    code = f"import sys, {modules}; sys.exit('flint' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
