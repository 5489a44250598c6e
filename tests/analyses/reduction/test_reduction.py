"""Balanced truncation, singular perturbation and their modal counterparts: bounds, invariances, SLICOT and pyMOR."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import slycot
import torch
from hypothesis import given
from hypothesis import strategies as st
from pymor.models.iosys import LTIModel
from pymor.reductors.bt import BTReductor

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.reduction.balanced import balanced_truncation, reduction_error, singular_perturbation
from ssm_analysis.analyses.reduction.modal import modal_gains, modal_singular_perturbation, modal_truncation
from ssm_analysis.analyses.spectrum.diagonalization import diagonalized
from ssm_analysis.systems.dense import transform
from tests.support.systems_table import STABLE, UNSTABLE, in_torch, random_fields

BALANCED = [balanced_truncation, singular_perturbation]
MODAL = [modal_truncation, modal_singular_perturbation]
CIRCLE = np.exp(1j * np.linspace(-np.pi, np.pi, 161))
FINE = np.exp(1j * np.linspace(-np.pi, np.pi, 801))
DEFECTIVE = {"dense_jordan", "dense_shift_register", "dense_batch"}
"""No diagonal form, or (a batch) not the same number of real poles everywhere."""


def peak(full, reduced, z=CIRCLE):
    """The largest singular value of the difference on a grid: a lower bound of its H-infinity norm."""
    return np.max(np.linalg.norm(full(z) - reduced(z), 2, axis=(-2, -1)), axis=-1)


def size(sys):
    """How large G is; sharp peaks between the points of the grid show in the Hankel norm."""
    s = hsv(sys)[..., 0] if np.all(np.abs(sys.poles()) < 1) else 0
    return np.maximum(np.max(np.linalg.norm(sys(CIRCLE), 2, axis=(-2, -1)), axis=-1), s) + 1e-300


def pole_rounding(sys):
    """A StateSpace stores its poles to 1e-16, so what depends on 1 - |lambda| is known to 1e-16 / (1 - |lambda|)."""
    return 1e-15 / np.min(1 - np.abs(sys.poles()))


def rank(sys):
    s = hsv(sys)
    return max(1, int(np.max(np.sum(s > 1e-12 * s[..., :1], axis=-1))))


RANKED = [name for name in STABLE if rank(STABLE[name]) > 1]
"""Systems of which some states can be left out."""


def lru(rng, n, m=2, *, radii=(0.8, 0.99), phase=np.pi):
    """One of each conjugate pair, as an LRU layer stores them."""
    B, C = (rng.normal(size=shape) + 1j * rng.normal(size=shape) for shape in ((n, m), (m, n)))
    mu = np.log(rng.uniform(*radii, size=n)) + 1j * rng.uniform(0, phase, size=n)
    return RealDiagonalSSM(log_poles=mu, B=B, C=C, D=rng.normal(size=(m, m)))


# --- balanced: laws


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", STABLE)
def test_error_stays_within_the_bound_for_every_order(f, name):
    sys = STABLE[name]
    s = hsv(sys)
    for order in range(1, rank(sys) + 1):
        result = f(sys, order=order)
        np.testing.assert_allclose(result.error_bound, 2 * np.sum(s[..., order:], axis=-1), rtol=1e-9, atol=1e-13 * np.max(s))
        assert np.all(peak(sys, result.system) <= result.error_bound * (1 + 1e-9) + 1e-12 * size(sys))
        np.testing.assert_allclose(result.hsv, s, rtol=1e-9, atol=1e-13 * np.max(s))
        assert result.system.nstates == order
        assert result.system.batch_shape == sys.batch_shape
        assert result.system.dt == sys.dt
        assert np.all(np.abs(result.system.poles()) < 1)


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", STABLE)
def test_full_order_reproduces_the_transfer_function(f, name):
    sys = STABLE[name]
    difference = peak(sys, f(sys, order=rank(sys)).system)
    assert np.all(difference <= 1e-11 * size(sys) + 1e-13)


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", ["realpart_siso", "complex_mimo", "dense_mimo", "dense_complex", "dense_batch", "realpart_mimo_batch"])
def test_measured_error_is_the_norm_of_the_difference(f, name):
    sys = STABLE[name]
    for order in (1, 2):
        result = f(sys, order=order)
        measured = reduction_error(sys, result.system)
        assert measured.shape == sys.batch_shape
        assert np.all(measured <= result.error_bound * (1 + 1e-9))
        # a grid of spacing d misses at most (d/2)^2/2 of the curvature of a peak as wide as 1 - |lambda| >= 0.03
        np.testing.assert_allclose(measured, peak(sys, result.system, FINE), rtol=1e-2)
        assert np.all(measured >= peak(sys, result.system, FINE) * (1 - 1e-9))


@pytest.mark.parametrize("f", BALANCED)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 7), m=st.integers(1, 3), p=st.integers(1, 3), complex_=st.booleans())
def test_bound_on_random_systems(f, seed, n, m, p, complex_):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n, n)) + 1j * complex_ * rng.normal(size=(n, n))
    A = (A if complex_ else A.real) * (rng.uniform(0.3, 0.99) / np.max(np.abs(np.linalg.eigvals(A))))
    sys = StateSpace(A=A, B=rng.normal(size=(n, m)), C=rng.normal(size=(p, n)), D=rng.normal(size=(p, m)))
    for order in range(1, rank(sys) + 1):
        result = f(sys, order=order)
        assert peak(sys, result.system, CIRCLE[::2]) <= result.error_bound * (1 + 1e-9) + 1e-9 * size(sys)


@pytest.mark.parametrize("name", RANKED)
def test_singular_perturbation_keeps_the_gain_at_zero_and_the_first_singular_values(name):
    sys = STABLE[name]
    s = hsv(sys)
    for order in range(1, rank(sys)):
        reduced = singular_perturbation(sys, order=order).system
        np.testing.assert_allclose(reduced(1.0), sys(1.0), rtol=1e-9, atol=1e-10 * np.max(size(sys)))
        np.testing.assert_allclose(hsv(reduced), s[..., :order], rtol=1e-7 + 2 * pole_rounding(sys), atol=1e-10 * np.max(s))


@pytest.mark.parametrize("name", RANKED)
def test_truncation_keeps_d_and_never_raises_a_singular_value(name):
    # in discrete time a truncated balanced system is not balanced: P_r <= S_r and Q_r <= S_r only
    sys = STABLE[name]
    s = hsv(sys)
    for order in range(1, rank(sys)):
        reduced = balanced_truncation(sys, order=order).system
        np.testing.assert_array_equal(reduced.D, sys.D)
        assert np.all(hsv(reduced) <= s[..., :order] * (1 + 1e-9 + pole_rounding(sys)) + 1e-13 * np.max(s))


@pytest.mark.parametrize("f", BALANCED)
def test_full_order_is_balanced(f, rng):
    reduced = f(lru(rng, 5), order=10)
    A, B, C, s = reduced.system.A, reduced.system.B, reduced.system.C, np.diag(reduced.hsv)
    np.testing.assert_allclose(A @ s @ A.T + B @ B.T, s, atol=1e-10 * s.max())
    np.testing.assert_allclose(A.T @ s @ A + C.T @ C, s, atol=1e-10 * s.max())


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", ["dense_siso", "dense_mimo", "dense_complex_mimo", "dense_jordan"])
def test_invariant_under_a_change_of_state(f, name, rng):
    sys = STABLE[name]
    T = rng.normal(size=(sys.nstates, sys.nstates)) + 1j * rng.normal(size=(sys.nstates, sys.nstates)) * ("complex" in name)
    T = T.real if "complex" not in name else T
    other = f(transform(sys, T, np.linalg.inv(T)), order=2)
    ours = f(sys, order=2)
    np.testing.assert_allclose(other.system(CIRCLE), ours.system(CIRCLE), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(other.hsv, ours.hsv, rtol=1e-8)


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", [name for name in STABLE if not name.startswith(("complex", "dense_complex"))])
def test_real_systems_stay_real_and_every_form_gives_the_same(f, name):
    sys = STABLE[name]
    order = min(2, rank(sys))
    ours = f(sys, order=order)
    assert all(x.dtype == np.float64 for x in (ours.system.A, ours.system.B, ours.system.C, ours.system.D))
    if np.all(ours.hsv[..., order - 1] > ours.hsv[..., min(order, ours.hsv.shape[-1] - 1)] * 1.001):
        dense = f(sys.to_dense(), order=order)
        np.testing.assert_allclose(dense.system(CIRCLE), ours.system(CIRCLE), rtol=1e-6, atol=1e-7 * np.max(size(sys)))


def test_both_ways_to_the_factors_agree(rng):
    """Well conditioned Gramians are factored by Cholesky, others by Takenaka and Malmquist's functions."""
    wide, narrow = lru(rng, 8, 4, radii=(0.9, 0.99)), lru(rng, 24, 1, radii=(0.5, 0.9), phase=0.3)
    for sys in (wide, narrow, wide.expand(), narrow.expand()):
        for f in BALANCED:
            result = f(sys, order=6)
            np.testing.assert_allclose(result.hsv, hsv(sys), atol=1e-13 * result.hsv[0])
            assert peak(sys, result.system) <= result.error_bound * (1 + 1e-9)
            reference = f(sys.to_dense(), order=6).system
            np.testing.assert_allclose(result.system(CIRCLE), reference(CIRCLE), atol=1e-8 * size(sys))


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("cls", [DiagonalSSM, RealDiagonalSSM])
def test_almost_equal_poles_with_canceling_residues(f, cls):
    """1e5 (1/(z - a) - 1/(z - b)) with b - a = 1e-5 is 1/(z - a)^2 to five digits; its Gramians are ill-conditioned to 1e11."""
    mu = np.log(0.9) + np.array([0.0, 1e-5, -0.5]) + 0.3j
    sys = cls(log_poles=mu, B=np.ones((3, 1)) + 0j, C=np.array([[1e5, -1e5, 1.0]]) + 0j, D=np.zeros((1, 1)))
    result = f(sys, order=2)
    np.testing.assert_allclose(result.hsv, hsv(sys), atol=1e-10 * result.hsv[0])  # accurate in every digit, test_gramians
    assert peak(sys, result.system) <= result.error_bound * (1 + 1e-9)


def test_the_real_system_is_balanced_not_its_complex_half(rng):
    sys = lru(rng, 16, 1, radii=(0.9, 0.999), phase=np.pi / 10)
    half = DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D)
    result = balanced_truncation(sys, order=8)
    assert result.hsv.shape == (32,)
    np.testing.assert_allclose(result.hsv, hsv(sys.to_dense()), rtol=1e-6, atol=1e-12)
    assert abs(result.hsv[0] / balanced_truncation(half, order=8).hsv[0] - 1) > 0.1


# --- order and tolerance


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", ["realpart_siso", "dense_mimo", "complex_batch"])
def test_tolerance_gives_the_smallest_order(f, name):
    sys = STABLE[name]
    for tol in (1e-3, 0.1, 1.0):
        result = f(sys, tol=tol)
        order = result.system.nstates
        assert np.all(result.error_bound <= tol)
        if order > 1:
            assert np.any(f(sys, order=order - 1).error_bound > tol)
    assert f(sys, tol=1e9).system.nstates == 1


@pytest.mark.parametrize("f", BALANCED)
def test_arguments_are_checked(f, unchecked_annotations):
    sys = STABLE["realpart_siso"]
    for arguments in ({}, {"order": 2, "tol": 0.1}):
        with pytest.raises(ValueError, match=rf"{f.__name__} takes either order \(a number of states\) or tol \(an error bound\), got"):
            f(sys, **arguments)
    for order in (0, 9, -1):
        with pytest.raises(ValueError, match=rf"order must be from 1 to 8, got {order}: the system has 8 states whose Hankel"):
            f(sys, order=order)
    with pytest.raises(TypeError, match=r"order must be a whole number of states, got 2\.5"):
        f(sys, order=2.5)
    for tol in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"tol must be positive, a bound on \|\|G - G_r\|\|_inf, got"):
            f(sys, tol=tol)
    with pytest.raises(ValueError, match=r"tol must be at least .* rounding noise"):
        f(STABLE["realpart_repeated"], tol=1e-300)
    with pytest.raises(TypeError, match=f"{f.__name__} takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got str"):
        f("sys", order=1)


@pytest.mark.parametrize("f", BALANCED)
def test_more_states_than_the_numerical_rank(f):
    with pytest.raises(ValueError, match="the system has 4 states whose Hankel singular value is above rounding"):
        f(STABLE["realpart_repeated"], order=5)  # 8 states, two pairs twice
    n = 64
    fast = DiagonalSSM(log_poles=-0.01 * np.arange(1, n + 1.0), B=np.ones((n, 1)), C=np.ones((1, n)), D=np.zeros((1, 1)))
    with pytest.raises(ValueError, match="order must be from 1 to 16, got 64"):  # S4D-Real: sigma_16 = 7e-12, sigma_1 = 46
        f(fast, order=64)
    result = f(fast, order=16)
    assert peak(fast, result.system) < 1e-12 * size(fast)
    np.testing.assert_allclose(result.condition, 1, rtol=1e-6)  # a symmetric system is balanced by a unitary matrix


@pytest.mark.parametrize("f", BALANCED)
def test_systems_without_input_have_one_idle_state(f):
    for name in ("complex_zero_input", "realpart_zero_input"):
        for result in (f(STABLE[name], order=1), f(STABLE[name], tol=1e-3)):
            np.testing.assert_array_equal(result.system(CIRCLE), np.broadcast_to(STABLE[name].D, (len(CIRCLE), 1, 1)))
            assert result.system.nstates == 1
            assert float(result.error_bound) == 0


@pytest.mark.parametrize("f", BALANCED)
def test_a_batch_is_filled_up_with_idle_states(f):
    rich, poor = STABLE["complex_siso"], STABLE["complex_repeated"]
    both = DiagonalSSM(**{name: np.stack([getattr(rich, name), getattr(poor, name)]) for name in rich.AXES})
    result = f(both, order=4)
    assert np.all(peak(both, result.system) <= 1e-12 * size(both))
    np.testing.assert_allclose(result.hsv[1, 2:], 0, atol=1e-14 * result.hsv[1, 0])
    np.testing.assert_allclose(result.system.B[1, 2:], 0)


# --- unstable systems


@pytest.mark.parametrize("f", BALANCED)
@pytest.mark.parametrize("name", ["some_outside", "complex_on_circle", "diagonal_integrator"])
def test_modes_outside_the_circle_are_kept(f, name, rng):
    fresh = lru(rng, 5)
    sys = UNSTABLE.get(name, replace(fresh, log_poles=fresh.log_poles + np.array([0, 0.3, 0, 0.4, 0])))
    whole = sys.to_dense()
    outside = whole.poles()[np.abs(whole.poles()) >= 1 - 1e-15]
    assert len(outside) > 0
    order = len(outside) + 1
    result = f(sys, order=order)
    poles = result.system.poles()
    for pole in outside:
        assert np.min(np.abs(poles - pole)) < 1e-12
    assert result.hsv.shape == (whole.nstates - len(outside),)
    z = 1.7 * CIRCLE  # away from the unstable poles; there the difference is bounded by its maximum on the circle
    assert peak(sys, result.system, z) <= result.error_bound * (1 + 1e-9) + 1e-12
    with pytest.raises(
        ValueError, match=rf"order must be from {order} to .* the system has {len(outside)} with \|lambda\| >= 1 that are kept"
    ):
        f(sys, order=order - 1)
    if f is singular_perturbation and name != "diagonal_integrator":
        np.testing.assert_allclose(result.system(1.0), sys(1.0), rtol=1e-9)


@pytest.mark.parametrize("f", BALANCED)
def test_unstable_systems_that_cannot_be_split(f):
    with pytest.raises(ValueError, match=rf"{f.__name__} needs a stable StateSpace, all \|lambda\| < 1, because it has no Gramians"):
        f(UNSTABLE["dense_growing"], order=1)
    with pytest.raises(ValueError, match=r"as many modes with \|lambda\| >= 1 in every system of the batch, got \[0, 1\]; index it"):
        f(UNSTABLE["complex_one_of_batch_growing"], order=1)
    lone = DiagonalSSM(log_poles=np.array([0.1]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))
    with pytest.raises(ValueError, match=r"reduces the stable part, but every mode has \|lambda\| >= 1"):
        f(lone, order=1)


# --- balanced: independent implementations


def slicot_truncation(sys, order):
    A, B, C, s = slycot.ab09ad("D", "B", "N", *sizes(sys), *matrices(sys, "ABC"), nr=order)[1:5]
    return A, B, C, sys.D, s


def slicot_perturbation(sys, order):
    # balancing-free, as the square-root version ("B") of slycot 0.7.1 misses the gain at z = 1; not ab09bd, which fails at random
    answer = slycot.ab09nd("D", "N", "N", *sizes(sys), *matrices(sys, "ABCD"), alpha=1.0, nr=order)
    return (*answer[1:5], answer[6])


def sizes(sys):
    return sys.nstates, sys.ninputs, sys.noutputs


def matrices(sys, names):
    return [np.array(getattr(sys, name), order="F") for name in names]


@pytest.mark.parametrize(("f", "slicot"), [(balanced_truncation, slicot_truncation), (singular_perturbation, slicot_perturbation)])
@pytest.mark.parametrize("order", [3, 6, 11])
def test_against_slicot(rng, f, slicot, order):
    sys = lru(rng, 10, 3)
    whole = sys.to_dense()
    A, B, C, D, s = slicot(whole, order)
    reference = StateSpace(A=np.array(A[:order, :order]), B=np.array(B[:order]), C=np.array(C[:, :order]), D=np.array(D))
    for form in (sys, sys.expand(), whole):
        result = f(form, order=order)
        np.testing.assert_allclose(result.hsv, s, rtol=1e-9)
        np.testing.assert_allclose(result.system(CIRCLE), reference(CIRCLE), rtol=1e-8, atol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_against_pymor(rng):
    sys = lru(rng, 8, 2)
    whole = sys.to_dense()
    model = LTIModel.from_matrices(*(np.array(getattr(whole, name)) for name in "ABCD"), sampling_time=1)
    reduced = BTReductor(model).reduce(6)
    result = balanced_truncation(sys, order=6)
    G = np.array([reduced.transfer_function.eval_tf(z) for z in CIRCLE[::10]])
    np.testing.assert_allclose(result.system(CIRCLE[::10]), G, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(result.hsv, model.hsv(), rtol=1e-8)


# --- the error system


@pytest.mark.parametrize("name", ["realpart_mimo", "complex_siso", "dense_mimo", "complex_batch"])
def test_error_against_itself_and_against_nothing(name):
    sys = STABLE[name]
    assert np.all(reduction_error(sys, sys) <= 1e-13 * size(sys))
    nothing = StateSpace(A=np.zeros((1, 1)), B=np.zeros((1, sys.ninputs)), C=np.zeros((sys.noutputs, 1)), D=np.zeros_like(sys.D))
    np.testing.assert_allclose(reduction_error(sys, nothing), peak(sys, nothing, FINE), rtol=1e-2)
    np.testing.assert_allclose(reduction_error(nothing, sys), reduction_error(sys, nothing), rtol=1e-9)


def test_error_of_systems_that_do_not_match(rng):
    sys = STABLE["complex_siso"]
    assert float(reduction_error(UNSTABLE["complex_growing"], STABLE["complex_one_state"])) == math.inf
    others = {"batch_shape": "complex_batch", "noutputs": "complex_one_input", "ninputs": "complex_one_output", "dt": "complex_half_period"}
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"full and reduced must have the same {name}, got"):
            reduction_error(sys, STABLE[other])


# --- diagonal form


@pytest.mark.parametrize("name", [name for name in STABLE if name not in DEFECTIVE and "repeated" not in name])
def test_diagonal_form_has_the_same_transfer_function(name):
    whole = STABLE[name].to_dense()
    result = diagonalized(whole)
    np.testing.assert_allclose(result.system(1.1 * CIRCLE), whole(1.1 * CIRCLE), rtol=1e-8, atol=1e-10)
    assert type(result.system) is (DiagonalSSM if any(np.iscomplexobj(getattr(whole, x)) for x in "ABCD") else RealDiagonalSSM)
    if isinstance(result.system, RealDiagonalSSM):
        assert result.system.expand().nstates == whole.nstates
    V = np.linalg.eig(whole.A)[1]
    np.testing.assert_allclose(result.condition, np.linalg.cond(V), rtol=1e-6)


def test_real_poles_stay_single_with_several_inputs(rng):
    V, pair = rng.normal(size=(9, 9)), np.array([[0.6, -0.5], [0.5, 0.6]])
    A = V @ scipy.linalg.block_diag(np.diag([-0.9, -0.4, 0.1, 0.5, 0.8]), pair, 0.9 * pair) @ np.linalg.inv(V)
    sys = StateSpace(A=A, B=rng.normal(size=(9, 3)), C=rng.normal(size=(2, 9)), D=np.zeros((2, 3)))
    modes = diagonalized(sys).system
    assert (modes.nstates, modes.expand().nstates) == (7, 9)
    np.testing.assert_allclose(modes(CIRCLE), sys(CIRCLE), rtol=1e-6, atol=1e-8)


def test_a_reduced_layer_stays_in_its_family(rng):
    sys = lru(rng, 12)
    reduced = balanced_truncation(sys, order=9)
    layer = diagonalized(reduced.system)
    assert isinstance(layer.system, RealDiagonalSSM)
    np.testing.assert_allclose(layer.system(CIRCLE), reduced.system(CIRCLE), rtol=1e-8, atol=1e-9)
    assert layer.condition < 1e4
    again = balanced_truncation(layer.system, order=9).system
    np.testing.assert_allclose(again(CIRCLE), reduced.system(CIRCLE), rtol=1e-7, atol=1e-8)


def test_no_diagonal_form(unchecked_annotations):
    with pytest.raises(ValueError, match="the eigenvectors of A are dependent to 64 bits"):
        diagonalized(STABLE["dense_jordan"])
    with pytest.raises(ValueError, match="a pole at exactly 0 has no logarithm"):
        diagonalized(StateSpace(A=np.diag([0.5, 0.0]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1))))
    A = np.stack([np.diag([0.5, 0.2]), np.array([[0.5, 0.2], [-0.2, 0.5]])])
    with pytest.raises(ValueError, match="every system of a batch must have as many real poles, got from 0 to 2; index the batch"):
        diagonalized(StateSpace(A=A, B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1))))
    with pytest.raises(TypeError, match="diagonalized takes one of StateSpace, got DiagonalSSM"):
        diagonalized(STABLE["complex_siso"])


# --- modal


@pytest.mark.parametrize("f", MODAL)
@pytest.mark.parametrize("name", [name for name in STABLE if name not in DEFECTIVE])
def test_modal_error_stays_within_the_bound(f, name):
    sys = STABLE[name]
    n = sys.to_dense().nstates
    for order in range(min(2, n), n + 1):
        result = f(sys, order=order)
        reduced = result.system
        assert np.all(peak(sys, reduced) <= result.error_bound * (1 + 1e-9) + 1e-8 * size(sys))
        assert reduced.to_dense().nstates in (order - 1, order)
        if f is modal_singular_perturbation:
            np.testing.assert_allclose(reduced(1.0), sys(1.0), rtol=1e-9, atol=1e-9 * np.max(size(sys)))
        else:
            np.testing.assert_allclose(reduced.D, sys.D)
    np.testing.assert_allclose(result.system(CIRCLE), sys(CIRCLE), rtol=1e-8, atol=1e-8 * np.max(size(sys)))
    np.testing.assert_allclose(result.error_bound, 0)


@pytest.mark.parametrize("f", MODAL)
def test_modal_bounds_are_attained_by_one_mode(f, rng):
    fields = random_fields(3, 2, 1, 1)
    fields["C"][0, 1] = 50.0  # the second mode is kept
    sys = DiagonalSSM(**fields)
    result = f(sys, order=1)
    np.testing.assert_allclose(peak(sys, result.system, np.exp(1j * np.linspace(-np.pi, np.pi, 40_001))), result.error_bound, rtol=1e-5)
    np.testing.assert_array_equal(result.kept, [1])


def test_gains_are_the_norms_of_single_modes(rng):
    sys = STABLE["complex_mimo"]
    for i, gain in enumerate(modal_gains(sys)):
        mode = DiagonalSSM(log_poles=sys.log_poles[i : i + 1], B=sys.B[i : i + 1], C=sys.C[:, i : i + 1], D=0 * sys.D)
        at_peak = mode(np.exp(1j * sys.log_poles[i].imag))
        np.testing.assert_allclose(np.linalg.norm(at_peak, 2), gain, rtol=1e-12)
    assert np.isinf(modal_gains(UNSTABLE["complex_on_circle"])[0])


@pytest.mark.parametrize("f", MODAL)
def test_modal_ranking_and_family(f, rng):
    sys = lru(rng, 6)
    result = f(sys, order=7)  # three pairs
    gains = np.linalg.norm(sys.C, axis=0) * np.linalg.norm(sys.B, axis=1) / (1 - np.abs(sys.poles()))
    np.testing.assert_allclose(result.scores, gains, rtol=1e-12)
    np.testing.assert_array_equal(result.kept, np.argsort(-gains)[:3])
    assert isinstance(result.system, RealDiagonalSSM)
    np.testing.assert_allclose(result.system.log_poles, sys.log_poles[result.kept])
    np.testing.assert_array_equal(result.condition, 1)
    slow = f(sys, order=6, scores=np.abs(sys.poles()))
    np.testing.assert_array_equal(slow.kept, np.argsort(-np.abs(sys.poles()))[:3])
    assert peak(sys, slow.system) <= slow.error_bound
    dense = f(sys.to_dense(), order=6)
    np.testing.assert_allclose(np.sort(np.abs(dense.system.poles())), np.sort(np.abs(result.system.poles())), rtol=1e-9)
    np.testing.assert_allclose(dense.system(CIRCLE), f(sys, order=6).system(CIRCLE), rtol=1e-7, atol=1e-8)
    assert dense.condition >= 1


@pytest.mark.parametrize("f", MODAL)
def test_modal_reduction_of_unstable_systems(f):
    sys = UNSTABLE["complex_on_circle"]
    result = f(sys, order=1)
    np.testing.assert_array_equal(result.kept, [0])
    assert peak(sys, result.system, 1.5 * CIRCLE) <= result.error_bound
    with pytest.raises(ValueError, match=r"order must leave room for every mode with \|lambda\| >= 1, got 1"):
        f(sys, order=1, scores=np.array([0.0, 1.0]))


@pytest.mark.parametrize("f", MODAL)
def test_modal_arguments_are_checked(f, unchecked_annotations):
    sys = STABLE["realpart_siso"]
    with pytest.raises(ValueError, match=r"order must be from 2 \(the first mode is a conjugate pair\) to 8 states, got 1"):
        f(sys, order=1)
    with pytest.raises(ValueError, match="order must be from 1 to 4 states, got 5"):
        f(STABLE["complex_siso"], order=5)
    with pytest.raises(TypeError, match="order must be a whole number of states, got None"):
        f(sys, order=None)
    for scores in (np.ones(3), np.ones(4) + 1j, [1.0] * 4):
        with pytest.raises(ValueError, match=r"scores must be a real array of shape \(4,\), one for each mode, got"):
            f(sys, order=2, scores=scores)
    with pytest.raises(TypeError, match="scores must be an array of the library of the system"):
        f(sys, order=2, scores=torch.ones(4))
    with pytest.raises(ValueError, match=rf"scores rank the modes of a diagonal system; hand diagonalized\(sys\)\.system to {f.__name__}"):
        f(sys.to_dense(), order=2, scores=np.ones(8))
    with pytest.raises(ValueError, match="the eigenvectors of A are dependent"):
        f(STABLE["dense_jordan"], order=2)


def test_modal_gains_take_diagonal_systems(unchecked_annotations):
    with pytest.raises(TypeError, match="modal_gains takes one of DiagonalSSM, RealDiagonalSSM, got StateSpace"):
        modal_gains(STABLE["dense_siso"])


# --- libraries, batches, gradients


def results(f, sys):
    order = 4 if f in MODAL and isinstance(sys, RealDiagonalSSM) else 2
    result = f(sys, order=order)
    z = sys.xp.exp(1j * sys.xp.linspace(-3, 3, 11, dtype=sys.xp.float64))
    return {"G": result.system(z), "bound": result.error_bound, "condition": result.condition}


REPRESENTATIVE = [
    "complex_siso",
    "complex_batch",
    "diagonal_real_mimo",
    "realpart_mimo",
    "realpart_mimo_batch",
    "realpart_batch",
    "dense_mimo",
]


@pytest.mark.parametrize("f", BALANCED + MODAL)
@pytest.mark.parametrize("name", ["complex_siso", "complex_batch", "diagonal_real_mimo", "realpart_mimo", "realpart_batch", "dense_mimo"])
def test_numpy_equals_torch(f, name):
    ours, theirs = results(f, STABLE[name]), results(f, in_torch(STABLE[name]))
    for key, value in ours.items():
        assert isinstance(theirs[key], torch.Tensor)
        np.testing.assert_allclose(theirs[key].numpy(), value, rtol=1e-8, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("name", ["complex_batch", "realpart_batch", "realpart_mimo_batch", "diagonal_real_batch", "dense_batch"])
@pytest.mark.parametrize("f", BALANCED + MODAL)
def test_a_batch_is_its_systems(f, name):
    sys = STABLE[name]
    if name in DEFECTIVE and f in MODAL:
        sys = sys[0, :1]
    whole = results(f, sys)
    for index in np.ndindex(sys.batch_shape):
        for key, value in results(f, sys[index]).items():
            np.testing.assert_allclose(whole[key][index], value, rtol=1e-8, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("f", BALANCED + MODAL)
def test_parameters_with_gradients_are_no_obstacle(f):
    sys = in_torch(STABLE["realpart_mimo"])
    mu = sys.log_poles.clone().requires_grad_()
    result = f(RealDiagonalSSM(log_poles=mu, B=sys.B, C=sys.C, D=sys.D), order=4)
    expected = f(STABLE["realpart_mimo"], order=4)
    np.testing.assert_allclose(result.error_bound.detach().numpy(), expected.error_bound, rtol=1e-9)
    result.error_bound.backward()
    assert mu.grad is not None
    assert bool(torch.all(torch.isfinite(torch.view_as_real(mu.grad))))


@pytest.mark.parametrize("f", BALANCED)
def test_single_precision_is_lifted(f):
    sys = STABLE["realpart_siso"]
    low = sys.map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    result = f(low, order=3)
    assert result.system.A.dtype == np.float64
    np.testing.assert_allclose(result.hsv, f(sys, order=3).hsv, rtol=1e-4, atol=1e-4)
