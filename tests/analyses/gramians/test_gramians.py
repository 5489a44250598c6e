"""Gramians, their factors and Hankel singular values of every kind of system."""

import array_api_strict as strict
import control
import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.gramians.factors import controllability_factor, gramian_factors, observability_factor
from ssm_analysis.analyses.gramians.gramians import controllability_gramian, observability_gramian, solve_stein
from ssm_analysis.analyses.gramians.hankel import hankel_norm, hsv
from ssm_analysis.systems.dense import transform
from ssm_analysis.xp import to_numpy
from tests.support.systems_table import STABLE, TIME_VARYING, UNSTABLE, in_torch, random_fields

ANALYSES = {
    "controllability_gramian": controllability_gramian,
    "observability_gramian": observability_gramian,
    "controllability_factor": controllability_factor,
    "observability_factor": observability_factor,
    "gramian_factors": lambda sys: gramian_factors(sys)[1],
    "hsv": hsv,
}
MODERATE = [name for name in STABLE if "light_damping" not in name]
"""A full matrix cannot hold a margin of 1e-9 to more than 7 digits."""
DIAGONAL = {name: sys for name, sys in STABLE.items() if isinstance(sys, DiagonalSSM)}
CLOSE = {"rtol": 1e-11, "atol": 1e-13}


def whole(sys):
    """With all states, as plain matrices."""
    return (sys.expand() if isinstance(sys, RealDiagonalSSM) else sys).to_dense()


def adjoint(M):
    return np.conj(np.swapaxes(M, -1, -2))


def mirrored(sys):
    """The dual system, from its definition."""
    s = whole(sys)
    return StateSpace(A=adjoint(s.A), B=adjoint(s.C), C=adjoint(s.B), D=adjoint(s.D))


def scaled(sys, factors):
    """The same system in other units of the states."""
    return type(sys)(log_poles=sys.log_poles, B=sys.B * factors[:, None], C=sys.C / factors, D=sys.D)


def siso(log_poles, b, c, kind=DiagonalSSM):
    b, c = np.asarray(b), np.asarray(c)
    return kind(log_poles=np.asarray(log_poles), B=b[:, None], C=c[None, :], D=np.zeros((1, 1)))


def error_scale(M):
    return {"rtol": 0, "atol": 1e-12 * max(np.max(np.abs(M)), 1e-300)}


@pytest.mark.parametrize("name", STABLE)
def test_gramians_solve_their_equations(name):
    s, P, Q = whole(STABLE[name]), controllability_gramian(STABLE[name]), observability_gramian(STABLE[name])
    np.testing.assert_allclose(s.A @ P @ adjoint(s.A) + s.B @ adjoint(s.B), P, **error_scale(P))
    np.testing.assert_allclose(adjoint(s.A) @ Q @ s.A + adjoint(s.C) @ s.C, Q, **error_scale(Q))


@pytest.mark.parametrize("name", MODERATE)
def test_duality(name):
    P, Q = controllability_gramian(STABLE[name]), observability_gramian(STABLE[name])
    np.testing.assert_allclose(controllability_gramian(mirrored(STABLE[name])), Q, **error_scale(Q))
    np.testing.assert_allclose(observability_gramian(mirrored(STABLE[name])), P, **error_scale(P))


@pytest.mark.parametrize("name", STABLE)
def test_factors(name):
    sys = STABLE[name]
    P, Q = controllability_gramian(sys), observability_gramian(sys)
    for L in (controllability_factor(sys), gramian_factors(sys)[0]):
        assert L.shape == P.shape
        np.testing.assert_allclose(L @ adjoint(L), P, **error_scale(P))
    for L in (observability_factor(sys), gramian_factors(sys)[1]):
        np.testing.assert_allclose(L @ adjoint(L), Q, **error_scale(Q))


@pytest.mark.parametrize("name", MODERATE)
def test_hankel_values_are_those_of_the_dense_system(name):
    found = hsv(STABLE[name])
    np.testing.assert_allclose(found, hsv(whole(STABLE[name])), **error_scale(found))
    assert np.all(np.diff(found, axis=-1) <= 0)
    np.testing.assert_allclose(hankel_norm(STABLE[name]), found[..., 0], **CLOSE)


@pytest.mark.parametrize("name", STABLE)
def test_hankel_values_are_roots_of_the_eigenvalues_of_the_product(name):
    product = controllability_gramian(STABLE[name]) @ observability_gramian(STABLE[name])
    found = hsv(STABLE[name]) ** 2
    expected = -np.sort(-np.real(np.linalg.eigvals(product)), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9 * np.max(expected))


@pytest.mark.parametrize("name", [name for name in MODERATE if not STABLE[name].batch_shape and isinstance(STABLE[name], RealDiagonalSSM)])
def test_against_slycot(name):
    block = STABLE[name].to_dense()
    plant = control.ss(block.A, block.B, block.C, block.D, True)
    P, Q = control.gram(plant, "c"), control.gram(plant, "o")
    np.testing.assert_allclose(controllability_gramian(block), P, **error_scale(P))
    np.testing.assert_allclose(observability_gramian(block), Q, **error_scale(Q))
    expected = -np.sort(-np.real(np.linalg.eigvals(P @ Q)))
    np.testing.assert_allclose(hsv(STABLE[name]) ** 2, expected, rtol=1e-7, atol=1e-12 * max(1e-300, expected[0]))


def test_against_pymor():
    from pymor.models.iosys import LTIModel

    block = STABLE["realpart_mimo"].to_dense()
    model = LTIModel.from_matrices(block.A, block.B, block.C, block.D, sampling_time=1)
    np.testing.assert_allclose(hsv(STABLE["realpart_mimo"]), model.hsv(), rtol=1e-8)
    np.testing.assert_allclose(hankel_norm(STABLE["realpart_mimo"]), model.hankel_norm(), rtol=1e-10)


@pytest.mark.parametrize("name", [name for name, sys in STABLE.items() if sys.batch_shape])
@pytest.mark.parametrize("analysis", ANALYSES)
def test_batches_are_single_systems_side_by_side(name, analysis):
    sys = STABLE[name]
    found = ANALYSES[analysis](sys)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(found[index], ANALYSES[analysis](sys[index]), **CLOSE)


@pytest.mark.parametrize("name", STABLE)
@pytest.mark.parametrize("analysis", ANALYSES)
def test_torch_gives_the_same_numbers(name, analysis):
    found = ANALYSES[analysis](in_torch(STABLE[name]))
    assert isinstance(found, torch.Tensor)
    expected = ANALYSES[analysis](STABLE[name])
    if analysis.endswith(("factor", "factors")):  # poles of a conjugate pair tie as pivots
        found, expected = found @ found.mH, expected @ adjoint(expected)
    np.testing.assert_allclose(found.numpy(), expected, **error_scale(expected))


@pytest.mark.parametrize(
    "name", ["complex_batch", "complex_mimo", "diagonal_real_mimo", "realpart_siso", "realpart_mimo", "dense_mimo", "dense_complex"]
)
@pytest.mark.parametrize("analysis", ["controllability_gramian", "observability_gramian", "hsv"])
def test_the_array_api_standard_is_enough(name, analysis):
    sys = STABLE[name]
    with strict.ArrayAPIStrictFlags(api_version="2024.12", data_dependent_shapes=False):
        found = ANALYSES[analysis](sys.map(lambda x: strict.asarray(np.array(x))))
        assert type(found).__module__.startswith("array_api_strict")
        np.testing.assert_allclose(to_numpy(found), ANALYSES[analysis](sys), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", STABLE)
def test_empty_batches(name):
    sys = STABLE[name][None][:0]
    n = whole(sys).nstates
    assert hsv(sys).shape == (0, *STABLE[name].batch_shape, n)
    assert controllability_gramian(sys).shape == (0, *STABLE[name].batch_shape, n, n)
    assert hankel_norm(sys).shape == (0, *STABLE[name].batch_shape)


@pytest.mark.parametrize("name", STABLE)
def test_hankel_values_scale_with_the_output(name):
    sys = STABLE[name]
    louder = sys.map(lambda x: x * (-2.5 if x is sys.C else 1))
    np.testing.assert_allclose(hsv(louder), 2.5 * hsv(sys), **error_scale(hsv(sys)))


@pytest.mark.parametrize("name", [name for name, sys in DIAGONAL.items() if sys.ninputs == sys.noutputs == 1])
def test_units_and_order_of_states_do_not_matter(name, rng):
    sys = STABLE[name]
    units = 10.0 ** rng.uniform(-30, 30, size=sys.nstates)
    np.testing.assert_allclose(hsv(scaled(sys, units)), hsv(sys), rtol=1e-12)
    order = rng.permutation(sys.nstates)
    shuffled = DiagonalSSM(log_poles=sys.log_poles[..., order], B=sys.B[..., order, :], C=sys.C[..., order], D=sys.D)
    np.testing.assert_allclose(hsv(shuffled), hsv(sys), rtol=1e-12, atol=1e-300)


@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(0, 10**6))
def test_state_transformations(n, m, p, seed):
    sys = DiagonalSSM(**random_fields(seed, n, m, p))
    rng = np.random.default_rng(seed)
    T = np.linalg.qr(rng.normal(size=(n, n)) + 1j * rng.normal(size=(n, n)))[0] * rng.uniform(0.5, 2, size=n)
    turned = transform(sys.to_dense(), T, np.linalg.inv(T))
    np.testing.assert_allclose(hsv(turned), hsv(sys), rtol=0, atol=1e-12 * np.max(hsv(sys)))
    P = T @ controllability_gramian(sys) @ adjoint(T)
    np.testing.assert_allclose(controllability_gramian(turned), P, **error_scale(P))


@given(st.floats(-40, -1e-12), st.floats(-10, 10), st.floats(0.01, 10))
def test_one_pole(decay, angle, b):
    """1/(z - l) has P = |b|^2 / (1 - |l|^2), Q = |c|^2 / (1 - |l|^2), as close to the circle as the logarithm says."""
    sys = siso([decay + 1j * angle], [b + 0j], [2j])
    P = b**2 / -np.expm1(2 * decay)
    np.testing.assert_allclose(controllability_gramian(sys), [[P]], rtol=1e-14)
    np.testing.assert_allclose(controllability_factor(sys) ** 2, [[P]], rtol=1e-14)
    np.testing.assert_allclose(hsv(sys), [2 * b / -np.expm1(2 * decay)], rtol=1e-14)


def test_poles_next_to_the_circle():
    sys = StateSpace(A=np.array([[1 - 1e-12]]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))
    np.testing.assert_allclose(controllability_gramian(sys), [[1 / (1 - (1 - 1e-12) ** 2)]], rtol=1e-3)
    pair = siso([-1e-12 + 1j, -1e-12 + 1.5j], [1.0, 1.0], [1.0, 1.0])
    np.testing.assert_allclose(np.diagonal(controllability_gramian(pair)), 0.5e12, rtol=1e-10)


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM])
def test_equal_poles_are_one_state(kind):
    """Two states with one pole and one input: a state of the pair is never reached."""
    mu = np.array([-0.1 + 1j, -0.1 + 1j, -0.2 + 2j])
    values = hsv(siso(mu, np.ones(3), np.array([1.0, 2.0, 1j]), kind))
    once = hsv(siso(mu[1:], np.ones(2), np.array([3.0, 1j]), kind))
    np.testing.assert_allclose(values[: len(once)], once, rtol=1e-13)
    np.testing.assert_array_equal(values[len(once) :], 0)
    L = controllability_factor(siso(mu, np.ones(3), np.ones(3)))
    assert np.linalg.matrix_rank(L) == 2
    np.testing.assert_array_equal(L[:, 2], 0)


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM])
@pytest.mark.parametrize("silent", ["b", "c"])
def test_modes_without_residue_count_for_nothing(kind, silent):
    mu, b, c = np.array([-0.1 + 1j, -0.3 + 2j, -0.2 + 3j]), np.array([1.0, 2.0, 3.0]) + 0j, np.array([1.0, 1j, 2.0])
    (b if silent == "b" else c)[1] = 0
    heard = [0, 2]
    values, rest = hsv(siso(mu, b, c, kind)), hsv(siso(mu[heard], b[heard], c[heard], kind))
    np.testing.assert_allclose(values[: len(rest)], rest, rtol=1e-12)
    np.testing.assert_allclose(values[len(rest) :], 0, atol=1e-14 * rest[0])
    L_P, L_Q = gramian_factors(siso(mu, b, c))
    np.testing.assert_allclose(L_P @ adjoint(L_P), controllability_gramian(siso(mu, b, c)), atol=1e-13)
    np.testing.assert_allclose(L_Q @ adjoint(L_Q), observability_gramian(siso(mu, b, c)), atol=1e-13)


def test_nothing_in_nothing_out():
    sys = siso([-0.1, -0.2], [0.0, 0.0], [1.0, 1.0])
    np.testing.assert_array_equal(hsv(sys), 0)
    np.testing.assert_array_equal(controllability_gramian(sys), 0)
    np.testing.assert_array_equal(hsv(sys.to_dense()), 0)


def test_many_inputs_cost_no_more_columns():
    n = m = 96
    fields = random_fields(5, n, m, m)
    sys = DiagonalSSM(**fields)
    P, L = controllability_gramian(sys), controllability_factor(sys)
    assert L.shape == (n, n)
    np.testing.assert_allclose(L @ adjoint(L), P, **error_scale(P))
    values = hsv(sys)
    np.testing.assert_allclose(np.sum(values**2), np.real(np.trace(P @ observability_gramian(sys))), rtol=1e-12)


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_have_no_gramian(name, analysis):
    with pytest.raises(ValueError, match=f"^{analysis} needs stable systems, all"):
        ANALYSES[analysis](UNSTABLE[name])


def test_the_error_names_the_batch_entries():
    batch = UNSTABLE["complex_one_of_batch_growing"]
    with pytest.raises(ValueError, match=r"hsv .* batch entries 1 are not: the sum .* diverges there, so it does not exist"):
        hsv(batch)
    with pytest.raises(ValueError, match=r"batch entries 1, 3, 5, 7, 9 and 1 more are not"):
        hsv(batch[[0, 1] * 6])
    with pytest.raises(ValueError, match=r"batch entries \(0, 1\), \(1, 1\) are not"):
        hsv(batch[np.array([[0, 1], [0, 1]])])
    with pytest.raises(ValueError, match=r"this one is not"):
        hsv(batch[1])


@pytest.mark.parametrize("name", UNSTABLE)
def test_the_hankel_norm_of_an_unstable_system_is_infinite(name):
    expected = np.array([np.isinf(x) for x in np.ravel(hankel_norm(UNSTABLE[name]))])
    assert expected[-1]
    if name == "complex_one_of_batch_growing":
        np.testing.assert_allclose(hankel_norm(UNSTABLE[name])[0], hsv(UNSTABLE[name][0])[0], rtol=1e-13)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("analysis", [*ANALYSES.values(), hankel_norm])
def test_only_time_invariant_systems_have_gramians(analysis):
    with pytest.raises(TypeError, match=r"takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV; .*pass sys\.frozen"):
        analysis(TIME_VARYING["ltv_real"])


@pytest.mark.parametrize("complex_", [False, True])
def test_stein_against_scipy(complex_, rng):
    A, R = (rng.normal(size=(2, 5, 5)) + (1j * rng.normal(size=(2, 5, 5)) if complex_ else 0) for _ in range(2))
    A = A * (0.97 / np.max(np.abs(np.linalg.eigvals(A)), axis=-1))[:, None, None]
    X = solve_stein(A, R)
    for i in range(2):
        np.testing.assert_allclose(X[i], scipy.linalg.solve_discrete_lyapunov(A[i], R[i]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("A", [np.eye(2), 1.1 * np.eye(2), np.array([[0.0, 2.0], [0.5, 0.0]]), np.full((2, 2), np.nan), 1e200 * np.eye(2)])
def test_stein_needs_powers_that_decay(A):
    with pytest.raises(ValueError, match="solve_stein needs stable systems, all"):
        solve_stein(A, np.zeros((2, 2)))


def test_an_unstable_mode_out_of_reach_is_still_unstable():
    """The sum over A^k B B* A*^k would converge, but the definition is about the system."""
    sys = StateSpace(A=np.diag([2.0, 0.5]), B=np.array([[0.0], [1.0]]), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="controllability_gramian needs stable systems"):
        controllability_gramian(sys)
    assert np.isinf(hankel_norm(sys))


def test_transient_growth_is_not_instability():
    """A Jordan block at 0.5 grows by 10^9 before it decays."""
    A = 0.5 * np.eye(12) + 3 * np.eye(12, k=1)
    P = solve_stein(A, np.eye(12))
    np.testing.assert_allclose(A @ P @ A.T + np.eye(12), P, rtol=1e-10, atol=1e-10 * np.max(P))


GRADIENTS = {
    "controllability_gramian": controllability_gramian,
    "observability_gramian": observability_gramian,
    "controllability_factor": lambda sys: controllability_factor(sys) @ controllability_factor(sys).mH,
    "hsv": hsv,
    "hankel_norm": hankel_norm,
}


@pytest.mark.parametrize("analysis", GRADIENTS)
@pytest.mark.parametrize(
    "name", ["complex_siso", "complex_mimo", "diagonal_real_mimo", "realpart_siso", "realpart_mimo", "dense_mimo", "dense_complex"]
)
def test_gradients(name, analysis):
    sys = in_torch(STABLE[name])
    fields = [getattr(sys, field).clone().requires_grad_() for field in sys.AXES]

    def f(*fields):
        value = GRADIENTS[analysis](type(sys)(**dict(zip(sys.AXES, fields, strict=True))))
        return torch.view_as_real(value) if value.is_complex() else value

    assert torch.autograd.gradcheck(f, fields, rtol=1e-4, atol=1e-6, fast_mode=True)


def test_the_gradient_of_an_infinite_norm_spares_the_others():
    sys = in_torch(UNSTABLE["complex_one_of_batch_growing"])
    mu = sys.log_poles.clone().requires_grad_()
    norms = hankel_norm(DiagonalSSM(log_poles=mu, B=sys.B, C=sys.C, D=sys.D))
    norms[0].backward()
    assert torch.all(torch.isfinite(mu.grad))
    assert torch.all(mu.grad[0] != 0)
