"""Poles and their time scales: closed forms, and the same numbers from python-control and numpy's eigenvalues."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, margins, poles, spectral_radius, time_constants
from ssm_analysis.analyses.spectrum import decay_rates
from ssm_analysis.systems.dense import transform
from tests.support.families_table import an_input, fresh
from tests.support.systems_table import INVARIANT, LENGTH, STABLE, TIME_VARYING, in_torch, matrices

ANALYSES = (poles, decay_rates, margins, spectral_radius, time_constants)
ONE = np.ones((1, 1))


def one_mode(log_pole, **changes):
    return DiagonalSSM(log_poles=np.array([log_pole]), B=ONE, C=ONE, D=ONE, **changes)


def dense(A):
    n = len(A)
    return StateSpace(A=np.asarray(A, dtype=float), B=np.ones((n, 1)), C=np.ones((1, n)), D=ONE)


def same_set(x, y, tolerance):
    distance = np.abs(np.reshape(x, (-1, 1)) - np.reshape(y, (1, -1)))
    return np.size(x) == np.size(y) and max(np.max(np.min(distance, axis=0)), np.max(np.min(distance, axis=1))) < tolerance


# definitions


@pytest.mark.parametrize("name", INVARIANT)
def test_all_follow_from_the_poles(name):
    sys = INVARIANT[name]
    size = np.abs(poles(sys))
    with np.errstate(divide="ignore"):
        rate = -np.log(size)
    np.testing.assert_allclose(decay_rates(sys), rate, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(margins(sys), 1 - size, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(spectral_radius(sys), np.max(size, axis=-1), rtol=1e-13)
    inside = decay_rates(sys) > 0
    assert np.all(np.isinf(time_constants(sys)[~inside]))
    np.testing.assert_allclose(np.exp(-sys.dt / time_constants(sys)[inside & (size > 0)]), size[inside & (size > 0)], rtol=1e-13)


@pytest.mark.parametrize("name", STABLE)
def test_poles_are_the_eigenvalues_of_the_matrix(name):
    sys = STABLE[name]
    for index in np.ndindex(sys.batch_shape):
        A = matrices(sys, index)[0]
        ours = poles(sys[index] if index else sys)
        ours = np.concatenate([ours, ours.conj()]) if isinstance(sys, RealDiagonalSSM) else ours
        assert same_set(ours, np.linalg.eigvals(A), 2e-3 if name == "dense_jordan" else 1e-7 if "repeated" in name else 1e-12)


@pytest.mark.parametrize("name", ["complex_pairs", "diagonal_real_siso", "realpart_siso", "realpart_mimo", "dense_siso", "dense_mimo"])
def test_poles_are_those_of_python_control(name):
    sys = STABLE[name]
    whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    assert same_set(poles(whole), sys.to_control().poles(), 1e-12)


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", TIME_VARYING)
def test_time_comes_first_where_the_system_varies(name, analysis):
    sys = TIME_VARYING[name]
    of_one_moment = DiagonalSSM(**{field: np.asarray(getattr(sys, field))[3] for field in sys.AXES})
    assert analysis(sys).shape[0] == LENGTH
    np.testing.assert_array_equal(analysis(sys)[3], analysis(of_one_moment))


# precision


@pytest.mark.parametrize("margin", [1e-1, 1e-6, 1e-12, 1e-15, 1e-100, 1e-300])
@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM])
def test_margins_have_no_cancellation(kind, margin):
    sys = kind(log_poles=np.log1p([-margin]) + 0.3j, B=ONE + 0j, C=ONE + 0j, D=ONE)
    np.testing.assert_allclose(margins(sys), [margin], rtol=2e-16)
    np.testing.assert_allclose(decay_rates(sys), [-np.log1p(-margin)], rtol=2e-16)
    np.testing.assert_allclose(time_constants(sys), [-1 / np.log1p(-margin)], rtol=3e-16)


def test_single_precision_is_lifted_before_it_is_used():
    sys = one_mode(np.float32(-1e-7)).map(lambda x: x.astype(np.float32))
    assert all(analysis(sys).dtype == np.float64 for analysis in ANALYSES)
    np.testing.assert_array_equal(decay_rates(sys), [-np.float64(np.float32(-1e-7))])
    np.testing.assert_allclose(margins(sys), -np.expm1(np.float64(np.float32(-1e-7))), rtol=1e-15)
    assert poles(sys)[0] < 1  # exp in single precision gives 0.9999999 or 1


# special places


def test_a_pole_at_zero_forgets_at_once():
    sys = STABLE["dense_shift_register"]
    np.testing.assert_array_equal(poles(sys), np.zeros(3))
    np.testing.assert_array_equal(margins(sys), np.ones(3))
    np.testing.assert_array_equal(decay_rates(sys), np.full(3, np.inf))
    np.testing.assert_array_equal(time_constants(sys), np.zeros(3))
    assert spectral_radius(sys) == 0
    mixed = dense([[0.0, 1.0], [0.0, 0.5]])
    np.testing.assert_allclose(np.sort(time_constants(mixed)), [0, 1 / np.log(2)], rtol=1e-15)
    assert spectral_radius(mixed) == 0.5


@pytest.mark.parametrize(("log_pole", "margin"), [(0.0, 0.0), (2.5j, 0.0), (0.3, 1 - np.exp(0.3)), (1e-13 - 1j, -1e-13)])
def test_on_and_outside_the_circle_nothing_decays(log_pole, margin):
    sys = one_mode(log_pole)
    np.testing.assert_allclose(margins(sys), [margin], rtol=1e-12)
    np.testing.assert_allclose(decay_rates(sys), [-np.real(log_pole)], rtol=1e-15)
    np.testing.assert_array_equal(time_constants(sys), [np.inf])
    np.testing.assert_allclose(spectral_radius(sys), 1 - margin, rtol=1e-15)


def test_dense_poles_on_and_outside_the_circle():
    sys = dense(np.diag([1.0, -1.0, 2.0, 0.5]))
    np.testing.assert_array_equal(np.sort(margins(sys)), [-1, 0, 0, 0.5])
    np.testing.assert_array_equal(np.sort(time_constants(sys))[1:], [np.inf] * 3)
    rotation = dense([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    np.testing.assert_allclose(margins(rotation), [0, 0], atol=2e-16)


def test_time_constants_count_in_units_of_dt():
    np.testing.assert_allclose(time_constants(one_mode(-0.01, dt=0.5)), [50.0], rtol=1e-15)


# laws


def test_a_change_of_coordinates_changes_nothing(rng):
    sys = STABLE["dense_mimo"]
    T = rng.standard_normal((4, 4))
    assert same_set(poles(transform(sys, T, np.linalg.inv(T))), poles(sys), 1e-12)


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", INVARIANT)
def test_a_batch_is_its_members_and_torch_is_numpy(name, analysis):
    sys = INVARIANT[name]
    all_at_once = analysis(sys)
    for index in np.ndindex(sys.batch_shape):
        if index:
            np.testing.assert_allclose(analysis(sys[index]), all_at_once[index], rtol=1e-12)
    theirs = analysis(in_torch(sys))
    assert isinstance(theirs, torch.Tensor)
    if name != "dense_jordan":  # a perturbation eps moves its four-fold pole by eps^(1/4)
        np.testing.assert_allclose(
            np.sort(np.abs(theirs.numpy()), axis=None), np.sort(np.abs(all_at_once), axis=None), rtol=1e-11, atol=1e-14
        )


@pytest.mark.parametrize("analysis", ANALYSES)
@pytest.mark.parametrize("name", ["complex_siso", "realpart_batch", "diagonal_real_siso", "dense_siso", "complex_growing", "dense_growing"])
def test_gradients(name, analysis):
    sys = in_torch(INVARIANT[name])
    field = "A" if isinstance(sys, StateSpace) else "log_poles"

    def f(x):
        y = analysis(type(sys)(**{name: getattr(sys, name) for name in sys.AXES} | {field: x}))
        return y[torch.isfinite(y)] if analysis is time_constants else y

    assert torch.autograd.gradcheck(f, getattr(sys, field).clone().requires_grad_())


def test_gradients_stay_finite_where_the_answer_is_infinite():
    mu = torch.tensor([0.0, -0.1, 0.2], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    sys = DiagonalSSM(log_poles=mu, B=one.expand(3, 1), C=one.expand(1, 3), D=one)
    torch.sum(1 / time_constants(sys)).backward()
    np.testing.assert_allclose(mu.grad, [0, -1, 0], atol=1e-12)


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("analysis", ANALYSES)
def test_what_is_refused(analysis):
    with pytest.raises(TypeError, match=f"{analysis.__name__} takes one of DiagonalSSM, .*got ndarray"):
        analysis(np.eye(2))
    with pytest.raises(TypeError, match=r"got Layer; pass layer.system\(\) of the layer"):
        analysis(fresh("lru"))
    selective = fresh("s6")
    with pytest.raises(TypeError, match=r"got Layer; pass layer.along\(u\) of the layer"):
        analysis(selective)
    assert analysis(selective.along(an_input(selective, 3))).shape[:2] == (3, 8)
