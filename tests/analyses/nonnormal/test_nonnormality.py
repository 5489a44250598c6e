"""Powers, resolvents and eigenvectors of matrices that are normal, nearly defective, or HiPPO."""

import math

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.nonnormal import pseudospectra
from ssm_analysis.analyses.nonnormal.conditions import eigenvalue_conditions, eigenvector_condition, kreiss_constant, transient_growth
from ssm_analysis.analyses.nonnormal.numerical_range import numerical_abscissa, numerical_radius
from ssm_analysis.analyses.nonnormal.pseudospectra import dplr_resolvent_norm, pseudospectrum, resolvent_norm, square_grid
from tests.support.systems_table import STABLE, UNSTABLE, in_torch

DENSE = {name: sys for name, sys in STABLE.items() if isinstance(sys, StateSpace)}
DIAGONAL = {name: sys for name, sys in STABLE.items() if not isinstance(sys, StateSpace)}
ALL = STABLE | UNSTABLE


def dense(A):
    n = A.shape[-1]
    return StateSpace(A=A, B=np.ones((n, 1)), C=np.ones((1, n)), D=np.zeros((1, 1)))


def jordan(n, pole=0.9):
    return pole * np.eye(n) + np.eye(n, k=1)


def legs(n):
    i = np.arange(n)
    return -np.tril(np.sqrt(np.outer(2 * i + 1, 2 * i + 1)), -1) - np.diag(i + 1.0)


def legt(n):
    i = np.arange(n)
    sign = np.where(i[:, None] < i, 1.0, (-1.0) ** (i[:, None] - i))
    return -(2 * i + 1.0)[:, None] * sign


def bilinear(A, delta):
    eye = np.eye(len(A))
    return np.linalg.solve(eye - delta / 2 * A, eye + delta / 2 * A)


def random_matrix(rng, n, radius, *, complex_=False):
    A = rng.normal(size=(n, n)) + (1j * rng.normal(size=(n, n)) if complex_ else 0)
    return A * (radius / np.max(np.abs(np.linalg.eigvals(A))))


def all_norms(A, length):
    """||A^k|| for k = 0, ..., length, one after the other."""
    power, norms = np.eye(len(A)), []
    for _ in range(length + 1):
        norms.append(np.linalg.norm(power, 2))
        power = power @ A
    return np.array(norms)


# --- powers


@pytest.mark.parametrize("name", DIAGONAL)
def test_stable_diagonal_systems_are_normal(name):
    sys = DIAGONAL[name]
    growth, K = transient_growth(sys), kreiss_constant(sys)
    for value in (growth.growth, K.lower, K.upper, eigenvector_condition(sys), eigenvalue_conditions(sys).conditions):
        np.testing.assert_array_equal(value, np.ones_like(value))
    np.testing.assert_array_equal(growth.step, np.zeros(sys.batch_shape))
    np.testing.assert_array_equal(growth.contraction_step, np.ones(sys.batch_shape))
    np.testing.assert_allclose(numerical_radius(sys), np.max(np.abs(sys.poles()), axis=-1), rtol=1e-14)
    assert K.lower.shape == K.z.shape == sys.batch_shape


@pytest.mark.parametrize("name", ["complex_pairs", "realpart_siso", "realpart_real_modes"])
def test_dense_analyses_agree_on_normal_matrices(name):
    sys = STABLE[name].to_dense()
    rho = np.max(np.abs(STABLE[name].poles()))
    assert float(transient_growth(sys).growth) == 1
    np.testing.assert_allclose(kreiss_constant(sys).upper, 1)
    np.testing.assert_allclose(kreiss_constant(sys).lower, 1)
    np.testing.assert_allclose(eigenvector_condition(sys), 1, rtol=1e-12)
    np.testing.assert_allclose(eigenvalue_conditions(sys).conditions, 1, rtol=1e-12)
    radius = float(numerical_radius(sys))
    assert rho * (1 - 1e-6) <= radius <= rho * (1 + 1e-14)


@pytest.mark.parametrize("name", DENSE)
def test_growth_is_the_largest_of_all_powers(name):
    sys = DENSE[name]
    result = transient_growth(sys)
    for index in np.ndindex(sys.batch_shape):
        norms = all_norms(sys.A[index], 4096)
        np.testing.assert_allclose(result.growth[index], norms.max(), rtol=1e-9)
        np.testing.assert_allclose(norms[result.step[index]], norms.max(), rtol=1e-9)
        assert result.contraction_step[index] > 0
        assert norms[result.contraction_step[index]] < 1


@pytest.mark.parametrize("length", [1, 2, 3, 5, 37, 64, 100])
def test_growth_within_a_length(rng, length):
    A = random_matrix(rng, 6, 1.0) + 1.5 * np.eye(6, k=1)
    A = 1.001 * A / np.max(np.abs(np.linalg.eigvals(A)))
    result = transient_growth(dense(A), length=length)
    norms = all_norms(A, length)
    np.testing.assert_allclose(result.growth, norms.max(), rtol=1e-9)
    assert int(result.step) == np.argmax(norms)
    assert int(result.contraction_step) == 0
    rising = transient_growth(dense(jordan(2, 1.0)), length=length)  # [[1, k], [0, 1]]
    assert int(rising.step) == length
    np.testing.assert_allclose(rising.growth, (length + np.sqrt(length**2 + 4)) / 2, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 4, 8, 16])
def test_growth_of_a_jordan_block_in_high_precision(n):
    result = transient_growth(dense(jordan(n)))
    with mpmath.workdps(40):
        A = mpmath.matrix(jordan(n).tolist())
        exact = max((mpmath.svd_r(A**k, compute_uv=False)[0], k) for k in (int(result.step) - 1, int(result.step), int(result.step) + 1))
    np.testing.assert_allclose(result.growth, float(exact[0]), rtol=1e-9)
    assert int(result.step) == exact[1]


def test_two_by_two_growth():
    a = 8.0
    result = transient_growth(dense(np.array([[0.5, a], [0.0, 0.5]])))
    fro2 = 0.5 + a * a  # of A itself, whose determinant is 1/4
    np.testing.assert_allclose(result.growth, np.sqrt((fro2 + np.sqrt(fro2**2 - 4 / 16)) / 2), rtol=1e-14)
    assert int(result.step) == 1


def test_legs_contracts_in_norm_and_legt_grows_first():
    # HiPPO: dissipative in the coordinates it has, so the bilinear rule makes it a contraction; LegT is not
    contraction = transient_growth(dense(bilinear(legs(64), 0.01)))
    assert float(contraction.growth) == 1
    assert int(contraction.contraction_step) == 1
    A = bilinear(legt(64), 0.01)
    growth, K = transient_growth(dense(A)), kreiss_constant(dense(A))
    np.testing.assert_allclose(growth.growth, all_norms(A, 256).max(), rtol=1e-9)
    assert 1.03 < K.lower <= K.upper == growth.growth
    np.testing.assert_allclose(numerical_abscissa(legs(64)), -0.5, rtol=1e-9)
    assert numerical_abscissa(legt(64)) > 500


def test_growth_of_systems_that_do_not_decay():
    integrator, growing = UNSTABLE["diagonal_integrator"], UNSTABLE["realpart_growing"]
    assert (float(transient_growth(integrator).growth), int(transient_growth(integrator).contraction_step)) == (1, 0)
    assert (float(kreiss_constant(integrator).lower), float(kreiss_constant(integrator).upper)) == (1, 1)
    rho = np.max(np.abs(growing.poles()))
    result = transient_growth(growing, length=50)
    np.testing.assert_allclose(result.growth, rho**50, rtol=1e-12)
    assert (int(result.step), int(result.contraction_step)) == (50, 0)
    assert float(transient_growth(growing, length=10**6).growth) == math.inf
    assert float(transient_growth(dense(1.1 * np.eye(2))).growth) == math.inf
    for sys in (growing, UNSTABLE["dense_growing"], dense(1.1 * np.eye(2))):
        assert (float(kreiss_constant(sys).lower), float(kreiss_constant(sys).upper)) == (math.inf, math.inf)
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    unknown = kreiss_constant(dense(Q))
    np.testing.assert_allclose(unknown.lower, 1)
    assert float(unknown.upper) == math.inf


def test_powers_beyond_64_bits_are_no_false_alarm():
    # stable, with powers of 1e150 and more: the growth is out of range, the Kreiss constant a lower bound, never "unstable"
    sys = dense(jordan(200))
    assert float(transient_growth(sys).growth) == math.inf
    z = 1.1
    assert (z - 1) * resolvent_norm(sys, z) > 1e10
    assert resolvent_norm(dense(jordan(16)), 1.0) > 1e14


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("n", [2, 5, 12])
def test_kreiss_matrix_theorem(rng, n, complex_):
    A = random_matrix(rng, n, 0.95, complex_=complex_) + np.eye(n, k=1)
    A = A * 0.97 / np.max(np.abs(np.linalg.eigvals(A)))
    growth, K = transient_growth(dense(A)), kreiss_constant(dense(A))
    assert K.lower <= K.upper == growth.growth <= math.e * n * K.lower * (1 + 1e-9)
    reached = (abs(K.z) - 1) * resolvent_norm(dense(A), complex(K.z))
    np.testing.assert_allclose(max(reached, 1), K.lower, rtol=1e-6)  # 1 is the limit far away
    # no point of a fine grid is higher
    r, theta = np.geomspace(1e-4, 10, 300), np.linspace(-np.pi, np.pi, 300)
    z = (1 + r) * np.exp(1j * theta[:, None])
    assert np.max(r / pseudospectrum(dense(A), z).epsilon) <= K.lower * (1 + 1e-6)


def test_kreiss_constant_of_two_by_two_nilpotent():
    # A = [[0, a], [0, 0]]: ||(z - A)^{-1}|| depends on |z| only; its square is the larger root of a quadratic
    a = 40.0
    r = np.linspace(1.001, 100, 2_000_001)
    square = (2 * r**2 + a * a + np.sqrt((2 * r**2 + a * a) ** 2 - 4 * r**4)) / 2
    np.testing.assert_allclose(
        kreiss_constant(dense(np.array([[0.0, a], [0.0, 0.0]]))).lower, np.max((r - 1) * np.sqrt(square) / r**2), rtol=1e-6
    )


@pytest.mark.parametrize("f", [transient_growth, kreiss_constant])
def test_lengths_are_checked(f, unchecked_annotations):
    for length in (0, -3, 2.5):
        with pytest.raises(ValueError, match="length must be a positive whole number of tokens, got"):
            f(STABLE["dense_siso"], length=length)


# --- numerical range


@pytest.mark.parametrize("rtol", [1e-3, 1e-6])
@pytest.mark.parametrize("complex_", [False, True])
def test_numerical_radius_against_many_angles(rng, complex_, rtol):
    A = random_matrix(rng, 7, 0.9, complex_=complex_)
    turned = np.exp(-1j * np.linspace(0, 2 * np.pi, 20_001))[:, None, None] * A
    reference = np.linalg.eigvalsh((turned + turned.conj().swapaxes(-1, -2)) / 2)[:, -1].max()
    radius = float(numerical_radius(dense(A), rtol=rtol))
    assert reference / (1 + rtol) <= radius <= reference * (1 + 1e-7)
    norm = np.linalg.norm(A, 2)
    assert norm / 2 <= radius * (1 + rtol)
    assert 0.9 / (1 + rtol) <= radius <= norm * (1 + 1e-12)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_numerical_radius_of_a_jordan_block(n):
    # the numerical range of the nilpotent block is the disc of radius cos(pi / (n + 1)) (Haagerup, de la Harpe 1992)
    for pole in (0.0, 0.9):
        radius = float(numerical_radius(dense(jordan(n, pole))))
        exact = pole + np.cos(np.pi / (n + 1))
        assert exact / (1 + 1e-6) <= radius <= exact * (1 + 1e-12)


def test_powers_of_the_numerical_radius(rng):
    A = random_matrix(rng, 6, 0.9) + np.eye(6, k=1)
    A = A / (float(numerical_radius(dense(A))) * (1 + 1e-6))
    assert all_norms(A, 200).max() <= 2  # Berger, Pearcy: r(A) <= 1 implies r(A^k) <= 1, and ||.|| <= 2 r


def test_numerical_radius_of_zero_and_its_tolerance():
    assert float(numerical_radius(dense(np.zeros((3, 3))))) == 0
    for rtol in (0, 1e-12, 1.0):
        with pytest.raises(ValueError, match="rtol must be between 1e-10 and 1"):
            numerical_radius(STABLE["dense_siso"], rtol=rtol)


def test_numerical_abscissa_bounds_the_exponential(rng):
    A = rng.normal(size=(3, 5, 5)) - 2 * np.eye(5)
    omega = numerical_abscissa(A)
    for a, w in zip(A, omega, strict=True):
        for t in (1e-3, 0.1, 1.0):
            assert np.linalg.norm(scipy.linalg.expm(t * a), 2) <= np.exp(t * w) * (1 + 1e-12)
        slope = (np.linalg.norm(scipy.linalg.expm(1e-6 * a), 2) - 1) / 1e-6
        np.testing.assert_allclose(slope, w, atol=1e-4)
    np.testing.assert_allclose(numerical_abscissa(torch.tensor(A)).numpy(), omega, rtol=1e-13)


def test_numerical_abscissa_refuses_what_is_no_square_matrix(unchecked_annotations):
    with pytest.raises(TypeError, match="A must be an array of floating-point numbers, got list"):
        numerical_abscissa([[1.0]])
    with pytest.raises(TypeError, match="floating-point numbers, got int"):
        numerical_abscissa(np.eye(2, dtype=int))
    with pytest.raises(ValueError, match=r"A must have shape \(\*batch, n, n\), got \(2, 3\)"):
        numerical_abscissa(np.ones((2, 3)))


# --- eigenvectors


def test_eigenvalue_conditions_predict_perturbations(rng):
    A = random_matrix(rng, 6, 0.9)
    result = eigenvalue_conditions(dense(A))
    np.testing.assert_allclose(np.sort(result.poles), np.sort(np.linalg.eigvals(A)), rtol=1e-12)
    _, left, right = scipy.linalg.eig(A, left=True)
    for pole, condition in zip(result.poles, result.conditions, strict=True):
        k = np.argmin(np.abs(scipy.linalg.eigvals(A) - pole))
        y, x = left[:, k], right[:, k]
        np.testing.assert_allclose(condition, np.linalg.norm(x) * np.linalg.norm(y) / abs(y.conj() @ x), rtol=1e-9)
        change = 1e-7 * np.outer(y, x.conj()) / (np.linalg.norm(x) * np.linalg.norm(y))  # the worst direction
        moved = np.min(np.abs(np.linalg.eigvals(A + change) - pole))
        np.testing.assert_allclose(moved / 1e-7, condition, rtol=1e-3)


def test_eigenvector_condition(rng):
    A = random_matrix(rng, 6, 0.9)
    V = np.linalg.eig(A)[1]
    np.testing.assert_allclose(eigenvector_condition(dense(A)), np.linalg.cond(V), rtol=1e-9)
    assert np.max(eigenvalue_conditions(dense(A)).conditions) <= np.linalg.cond(V)
    a = 3.0  # eigenvectors (1, 0) and (a, -1) / sqrt(1 + a^2), at an angle with cosine a / sqrt(1 + a^2)
    cosine = a / np.sqrt(1 + a * a)
    two = dense(np.array([[0.5, a], [0.0, -0.5]]))
    np.testing.assert_allclose(eigenvector_condition(two), np.sqrt((1 + cosine) / (1 - cosine)), rtol=1e-12)
    np.testing.assert_allclose(eigenvalue_conditions(two).conditions, np.sqrt(1 + a * a), rtol=1e-12)


def test_defective_matrices_have_no_finite_condition():
    for n in (2, 8, 64):
        assert eigenvector_condition(dense(jordan(n))) > 1e14
        assert np.min(eigenvalue_conditions(dense(jordan(n))).conditions) > 1e14
    assert eigenvector_condition(dense(bilinear(legs(64), 0.01))) > 1e14
    assert float(eigenvector_condition(dense(np.eye(3, k=1)))) > 1e100
    assert np.all(eigenvalue_conditions(dense(np.eye(3, k=1))).conditions > 1e100)


# --- resolvents


@pytest.mark.parametrize("name", ALL)
def test_resolvent_norm_is_the_norm_of_the_inverse(name, rng):
    sys = ALL[name]
    z = rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))
    whole = sys.to_dense()
    inverse = np.linalg.inv(z[..., None, None] * np.eye(whole.nstates) - whole.A[..., None, None, :, :])
    expected = np.linalg.norm(inverse, 2, axis=(-2, -1))
    np.testing.assert_allclose(resolvent_norm(sys, z), expected, rtol=1e-10)
    result = pseudospectrum(sys, z)
    np.testing.assert_allclose(1 / result.epsilon, expected, rtol=2e-6)
    assert result.z.shape == (2, 3)
    assert result.poles.shape == (*sys.batch_shape, whole.nstates)
    np.testing.assert_allclose(resolvent_norm(sys, 1.5), resolvent_norm(sys, np.array(1.5)), rtol=0)


@pytest.mark.parametrize("name", ["complex_siso", "complex_batch", "diagonal_real_siso", "realpart_siso"])
def test_resolvent_of_a_diagonal_system_is_one_over_the_distance(name):
    sys = STABLE[name]
    z = 1.3 * np.exp(1j * np.arange(5))
    poles = sys.expand().poles() if isinstance(sys, RealDiagonalSSM) else sys.poles()
    distance = np.min(np.abs(z - poles[..., :, None]), axis=-2)
    np.testing.assert_allclose(resolvent_norm(sys, z), 1 / distance, rtol=1e-14)
    np.testing.assert_allclose(pseudospectrum(sys, z).epsilon, distance, rtol=1e-14)
    single = sys[(0,) * len(sys.batch_shape)] if sys.batch_shape else sys
    assert float(resolvent_norm(single, complex(single.poles()[0]))) == math.inf


@pytest.mark.parametrize("n", [1, 2, 3, 17, 40])
@pytest.mark.parametrize("kind", ["random", "jordan", "legs", "orthogonal", "complex"])
def test_grid_values_agree_with_singular_values(rng, kind, n):
    A = {
        "random": lambda: rng.normal(size=(n, n)) / np.sqrt(n),
        "jordan": lambda: jordan(n),
        "legs": lambda: bilinear(legs(n), 0.05),
        "orthogonal": lambda: np.linalg.qr(rng.normal(size=(n, n)))[0],
        "complex": lambda: (rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n))) / np.sqrt(2 * n),
    }[kind]()
    sys = dense(A)
    z = square_grid(sys, points=12)
    epsilon, exact = pseudospectrum(sys, z).epsilon, 1 / resolvent_norm(sys, z)
    np.testing.assert_allclose(epsilon, exact, rtol=2e-6, atol=1e-14 * n)


def test_points_on_eigenvalues_and_beyond_the_range_of_doubles():
    sys = dense(np.diag([0.5, -0.25]) + np.array([[0.0, 3.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(pseudospectrum(sys, np.array([0.5, -0.25])).epsilon, [0, 0])
    assert resolvent_norm(sys, 0.5) > 1e15
    grid = square_grid(dense(jordan(300)), points=6)  # ||R|| reaches 1e400 here
    epsilon = pseudospectrum(dense(jordan(300)), grid).epsilon
    np.testing.assert_allclose(epsilon, 1 / resolvent_norm(dense(jordan(300)), grid), rtol=2e-6, atol=1e-13)
    pole = DiagonalSSM(log_poles=np.array([0.0]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))
    assert float(resolvent_norm(pole, 1.0)) == math.inf


def test_square_grid():
    grid = square_grid(STABLE["complex_siso"], points=5)
    np.testing.assert_allclose(grid[2, :], np.linspace(-1.25, 1.25, 5), atol=1e-15)
    np.testing.assert_allclose(grid[:, 2], 1j * np.linspace(-1.25, 1.25, 5), atol=1e-15)
    assert np.max(square_grid(dense(4 * np.eye(2))).real) == 5
    with pytest.raises(ValueError, match="points must be at least 2 along each axis, got 1"):
        square_grid(STABLE["complex_siso"], points=1)


@pytest.mark.parametrize("f", [resolvent_norm, pseudospectrum])
def test_points_are_checked(f, unchecked_annotations):
    sys = STABLE["dense_siso"]
    with pytest.raises(TypeError, match="z must be a number or an array, got str"):
        f(sys, "1")
    with pytest.raises(TypeError, match=r"z must be an array of the library of the system, got .*Tensor"):
        f(sys, torch.ones(2))


@pytest.mark.parametrize("rank", [1, 2])
def test_dplr_resolvent(rng, rank):
    n = 12
    Lambda = -0.5 + 1j * rng.normal(size=(2, n)) * 5
    P = rng.normal(size=(2, n, rank)) + 1j * rng.normal(size=(2, n, rank))
    z = rng.normal(size=(3, 4)) + 1j * rng.normal(size=(3, 4)) * 5
    A = Lambda[..., None] * np.eye(n) - P @ P.conj().swapaxes(-1, -2)
    expected = resolvent_norm(StateSpace(A=A, B=np.ones((n, 1)), C=np.ones((1, n)), D=np.zeros((1, 1))), z)
    np.testing.assert_allclose(dplr_resolvent_norm(Lambda, P, z), expected, rtol=2e-6)
    np.testing.assert_allclose(dplr_resolvent_norm(torch.tensor(Lambda), torch.tensor(P), torch.tensor(z)).numpy(), expected, rtol=2e-6)
    np.testing.assert_allclose(dplr_resolvent_norm(Lambda[0], P[0], 1j), resolvent_norm(dense(A[0]), 1j), rtol=2e-6)


@pytest.mark.parametrize("form", ["triangular", "dplr"])
def test_lanczos_alone_is_enough_for_ordinary_matrices(rng, form, monkeypatch):
    """Elsewhere singular values stand in where it has not converged, and would hide a wrong operator."""
    n = 30
    Lambda, P = -0.5 + 5j * rng.normal(size=n), rng.normal(size=(n, 2)) + 1j * rng.normal(size=(n, 2))
    A = np.diag(Lambda) - P @ P.conj().T
    z = rng.normal(size=20) + 5j * rng.normal(size=20)
    exact = resolvent_norm(dense(A), z)

    def refuse(A, z):
        raise AssertionError(f"{z.shape[0]} points left")

    monkeypatch.setattr(pseudospectra, "smallest_singular_values", refuse)
    found = 1 / pseudospectrum(dense(A), z).epsilon if form == "triangular" else dplr_resolvent_norm(Lambda, P, z)
    np.testing.assert_allclose(found, exact, rtol=2e-6)


def test_dplr_form_of_legs():
    # S4 2111.00396, appendix C: A + P P^T is -1/2 plus a skew matrix, so normal
    n = 16
    P = np.sqrt(np.arange(n) + 0.5)
    w, V = np.linalg.eigh(-1j * (legs(n) + np.outer(P, P) + 0.5 * np.eye(n)))
    Lambda, Q = -0.5 + 1j * w, (V.conj().T @ P)[:, None]
    z = np.linspace(-5, 5, 7)[:, None] + 1j * np.linspace(2, 20, 6)
    np.testing.assert_allclose(dplr_resolvent_norm(Lambda, Q, z), resolvent_norm(dense(legs(n)), z), rtol=1e-6)


def test_dplr_arguments_are_checked(unchecked_annotations):
    Lambda, P = np.array([-1.0 + 0j, -2.0]), np.ones((2, 1))
    with pytest.raises(ValueError, match="z must not be an entry of Lambda"):
        dplr_resolvent_norm(Lambda, P, np.array([1.0, -2.0]))
    with pytest.raises(ValueError, match=r"P must have shape \(\*batch, n, r\) with \(\*batch, n\) = \(2,\) as in Lambda, got \(3, 1\)"):
        dplr_resolvent_norm(Lambda, np.ones((3, 1)), 1.0)


# --- libraries, batches, gradients


def values(sys):
    """Every analysis of this file as a dictionary of arrays."""
    growth, K = transient_growth(sys), kreiss_constant(sys)
    z = 1.2 * sys.xp.exp(1j * sys.xp.arange(4, dtype=sys.xp.float64))
    return {
        "growth": growth.growth,
        "step": growth.step,
        "contraction": growth.contraction_step,
        "lower": K.lower,
        "upper": K.upper,
        "radius": numerical_radius(sys),
        "condition": eigenvector_condition(sys),
        "resolvent": resolvent_norm(sys, z),
        "epsilon": pseudospectrum(sys, z).epsilon,
    }


@pytest.mark.parametrize("name", ["dense_siso", "dense_complex", "dense_batch", "complex_batch", "realpart_siso", "dense_growing"])
def test_numpy_equals_torch(name):
    ours, theirs = values(ALL[name]), values(in_torch(ALL[name]))
    for key, value in ours.items():
        assert isinstance(theirs[key], torch.Tensor)
        np.testing.assert_allclose(theirs[key].numpy(), value, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize("name", ["dense_batch", "complex_batch", "realpart_mimo_batch"])
def test_a_batch_is_its_systems(name):
    sys = STABLE[name]
    whole = values(sys)
    for index in np.ndindex(sys.batch_shape):
        for key, value in values(sys[index]).items():
            np.testing.assert_allclose(whole[key][index], value, rtol=1e-6, err_msg=key)


@pytest.mark.parametrize(
    "f",
    [
        lambda sys: transient_growth(sys).growth,
        lambda sys: kreiss_constant(sys).lower,
        numerical_radius,
        lambda sys: resolvent_norm(sys, 1.1 + 0.2j),
    ],
    ids=["growth", "kreiss", "radius", "resolvent"],
)
def test_gradients_of_dense_systems(f):
    A = torch.tensor([[0.56, 1.6, 0.24], [0.0, 0.48, 1.2], [0.02, 0.0, 0.4]], dtype=torch.float64, requires_grad=True)
    one = torch.ones(3, 1, dtype=torch.float64)
    # the searches stop within 1e-6 of the maximum, where the slope along the search is 1e-3 of what it can be
    assert torch.autograd.gradcheck(lambda A: f(StateSpace(A=A, B=one, C=one.mT, D=0 * one[:1])), A, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    "f", [numerical_radius, lambda sys: resolvent_norm(sys, 1.1 + 0.2j), lambda sys: transient_growth(sys, length=7).growth]
)
def test_gradients_of_diagonal_systems(f):
    mu = torch.tensor([-0.5, 0.01, -0.2], dtype=torch.float64, requires_grad=True)
    one = torch.ones(3, 1, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda mu: f(DiagonalSSM(log_poles=mu + 0.3j, B=one, C=one.mT, D=0 * one[:1])), mu)


def test_a_contraction_has_no_gradient():
    A = (0.5 * torch.eye(2, dtype=torch.float64)).requires_grad_()
    one = torch.ones(2, 1, dtype=torch.float64)
    transient_growth(StateSpace(A=A, B=one, C=one.mT, D=0 * one[:1])).growth.backward()
    np.testing.assert_array_equal(A.grad, np.zeros((2, 2)))


@pytest.mark.parametrize(
    "f", [transient_growth, kreiss_constant, numerical_radius, eigenvector_condition, eigenvalue_conditions, square_grid]
)
def test_only_time_invariant_systems(f, unchecked_annotations):
    with pytest.raises(TypeError, match=f"{f.__name__} takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got int"):
        f(1)
