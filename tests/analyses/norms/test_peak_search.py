"""The peak of the frequency response: found where it is, however sharp."""

import math

import mpmath
import numpy as np
import pytest
import slycot
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, frequency_response
from ssm_analysis.analyses.norms.system_norms import hinf_bounds, hinf_norm, hinf_peak
from ssm_analysis.analyses.responses.gains import gain, gain_slope, resolvent
from tests.support.non_normal import legs
from tests.support.systems_table import STABLE, UNSTABLE, in_torch, random_fields

REAL = [name for name, sys in STABLE.items() if not sys.batch_shape and isinstance(sys, RealDiagonalSSM)]


def ab13dd(sys, tol=1e-10):
    """(peak gain, angle) of a real system, from SLICOT."""
    A, B, C, D = (np.ascontiguousarray(getattr(sys, name)) for name in sys.AXES)
    return slycot.ab13dd("D", "I", "N", "D", len(A), B.shape[1], len(C), A, np.eye(len(A)), B, C, D, tol)


def one_mode(log_pole, residue=1.0, through=0.0, kind=DiagonalSSM):
    one = np.ones((1, 1))
    return kind(log_poles=np.array([log_pole]), B=residue * one, C=one, D=through * one)


@given(st.floats(-30, -1e-13), st.floats(-3.1, 3.1))
@example(-0.625, 1.7e-154)
def test_one_complex_mode(decay, angle):
    """1/(z - l) peaks at arg(l), on one branch only, at 1 / (1 - |l|)."""
    peak = hinf_peak(one_mode(decay + 1j * angle))
    np.testing.assert_allclose(peak.gain, 1 / -math.expm1(decay), rtol=1e-13)
    if decay > -5:
        np.testing.assert_allclose(peak.omega, angle, atol=1e-6 * -math.expm1(decay))


@pytest.mark.parametrize("damping", [1e-10, 1e-13])
@pytest.mark.parametrize("angle", [-3.1, -0.3, 0.0, 1e-3, 2.9])
def test_very_light_damping(damping, angle):
    """The angle of the pole is itself a double; one rounding of it is a good part of the width of the peak."""
    np.testing.assert_allclose(hinf_norm(one_mode(-damping + 1j * angle)), 1 / -math.expm1(-damping), rtol=1e-12)


@pytest.mark.parametrize("damping", [1e-2, 1e-5, 1e-8, 1e-12])
def test_two_branches(damping):
    """A system that is not real can have its peak at a negative frequency only."""
    sys = DiagonalSSM(log_poles=np.array([-2 * damping + 1j, -damping - 1j]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    peak = hinf_peak(sys)
    np.testing.assert_allclose(peak.omega, -1, atol=2 * damping)
    np.testing.assert_allclose(peak.gain, 1 / damping, rtol=2 * damping)


@given(st.floats(0.001, 0.999), st.floats(-np.pi, np.pi))
def test_all_pass(radius, angle):
    """(1 - conj(l) z) / (z - l) has gain 1 everywhere."""
    pole = radius * np.exp(1j * angle)
    sys = one_mode(np.log(pole), residue=1 - radius**2, through=-np.conj(pole))
    np.testing.assert_allclose(hinf_norm(sys), 1, rtol=1e-12)
    bounds = hinf_bounds(sys, rtol=1e-5)
    assert 1 - 1e-12 < bounds.lower <= bounds.upper < 1 + 1.1e-5


@pytest.mark.parametrize("name", STABLE)
def test_the_gain_is_attained_at_omega(name):
    sys = STABLE[name]
    peak = hinf_peak(sys)
    assert peak.gain.shape == peak.omega.shape == sys.batch_shape
    for index in np.ndindex(sys.batch_shape):
        omega = peak.omega[index]
        assert -math.pi < omega * sys.dt <= math.pi * (1 + 1e-15)
        there = frequency_response(sys[index], np.reshape(omega, (1,)))[0]
        rtol = 1e-6 if "light" in name else 1e-12  # z - l cancels there
        np.testing.assert_allclose(np.linalg.norm(there, 2), peak.gain[index], rtol=rtol)


@pytest.mark.parametrize("name", STABLE)
def test_nothing_is_higher_anywhere(name):
    sys = STABLE[name]
    response = frequency_response(sys, np.linspace(-np.pi, np.pi, 4001) / sys.dt)
    highest = np.max(np.linalg.norm(response, 2, axis=(-2, -1)), axis=-1)
    assert np.all(highest <= hinf_norm(sys) * (1 + 1e-12))


@pytest.mark.parametrize("name", [*REAL, "complex_pairs"])
def test_against_slycot(name):
    plant = STABLE[name].to_dense() if name in REAL else None
    if plant is None:
        model = STABLE[name].to_control()
        plant = StateSpace(A=model.A, B=model.B, C=model.C, D=model.D)
    gain_there, omega = ab13dd(plant)
    peak = hinf_peak(STABLE[name])
    rtol = 1e-6 if "light" in name else 1e-9
    np.testing.assert_allclose(peak.gain, gain_there, rtol=rtol)
    if not np.isclose(gain_there, np.linalg.norm(plant.D, 2)):
        np.testing.assert_allclose(np.abs(peak.omega), omega, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("n", [16, 64])
@pytest.mark.parametrize("delta", [1e-3, 1e-2, 1e-1])
def test_hippo_against_slycot(n, delta, turned, rng):
    """Eigenvalues of the turned matrix are wrong in the first digit; the peak is not."""
    sys = legs(n, delta, rng, turned=turned)
    np.testing.assert_allclose(hinf_norm(sys), ab13dd(sys)[0], rtol=1e-9)


@pytest.mark.parametrize("margin", [1e-1, 1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(("n", "m", "p"), [(1, 1, 1), (7, 1, 1), (20, 1, 1), (15, 2, 3)])
def test_random_full_matrices_against_slycot(n, m, p, margin, rng):
    A = rng.normal(size=(n, n))
    A = A * ((1 - margin) / np.max(np.abs(np.linalg.eigvals(A))))
    sys = StateSpace(A=A, B=rng.normal(size=(n, m)), C=rng.normal(size=(p, n)), D=rng.normal(size=(p, m)))
    np.testing.assert_allclose(hinf_norm(sys), ab13dd(sys)[0], rtol=max(1e-9, 1e-13 / margin))


def test_powers_that_cancel_beyond_64_bits():
    """A far from normal A, whose impulse response cannot give a grid: the search falls back on solves."""
    A = 0.5 * np.eye(30) + 4 * np.eye(30, k=1)
    sys = StateSpace(A=A, B=np.eye(30)[:, 29:], C=np.eye(30)[:1], D=np.zeros((1, 1)))
    np.testing.assert_allclose(hinf_norm(sys), 4.0**29 / 0.5**30, rtol=1e-12)  # 4^29 / (z - 1/2)^30 at z = 1


def test_a_batch_of_layers_with_sharp_peaks(rng):
    """S4D as it is initialized, with delta down to 0.001: 32 pairs each, against SLICOT."""
    delta = np.geomspace(1e-3, 1e-1, 6)[:, None]
    mu = (-0.5 + 1j * np.pi * np.arange(32)) * delta
    C = rng.normal(size=(6, 1, 32)) + 1j * rng.normal(size=(6, 1, 32))
    sys = RealDiagonalSSM(log_poles=mu, B=np.expm1(mu)[..., None], C=C, D=rng.normal(size=(6, 1, 1)))
    expected = [ab13dd(sys[i].to_dense())[0] for i in range(6)]
    np.testing.assert_allclose(hinf_norm(sys), expected, rtol=1e-9)


@pytest.mark.parametrize("damping", [1e-1, 1e-7, 1e-13])
def test_gain_next_to_a_pole(damping):
    """To rounding, where z - l has lost all but three digits; against 50 digits."""
    mu = np.array([-damping + 1.0j, -0.3 - 2j])
    sys = DiagonalSSM(log_poles=mu, B=np.ones((2, 1)), C=np.ones((1, 2)) + 1j, D=np.ones((1, 1)))
    theta = 1.0 + damping * np.array([-3.0, 0.0, 0.7])
    with mpmath.workdps(50):
        z = [mpmath.expj(mpmath.mpf(float(t))) for t in theta]
        G = [1 + sum((1 + 1j) / (zi - mpmath.exp(mpmath.mpc(m))) for m in mu) for zi in z]
        expected = [float(abs(g)) for g in G]
    np.testing.assert_allclose(gain(sys, theta), expected, rtol=1e-14)


def test_resolvent_where_tangents_are_infinite():
    """theta - arg(lambda) = pi, and turns more."""
    mu, theta = np.array([-0.1 + 1j, -0.1 + 1j - 2j * np.pi]), np.array([1.0 + np.pi])
    np.testing.assert_allclose(resolvent(mu, theta), 1 / np.expm1(mu - 1j * theta[:, None]), rtol=1e-13)


@pytest.mark.parametrize(
    "name", ["complex_siso", "complex_mimo", "realpart_siso", "realpart_mimo", "dense_siso", "dense_mimo", "dense_complex"]
)
def test_slope_is_the_derivative_of_half_the_square(name):
    from ssm_analysis.analyses.responses.gains import all_modes

    sys, theta, step = all_modes(STABLE[name]), np.array([-1.3, 0.2, 2.9]), 1e-6
    difference = (gain(sys, theta + step) ** 2 - gain(sys, theta - step) ** 2) / (4 * step)
    np.testing.assert_allclose(gain_slope(sys, theta), difference, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_have_no_peak(name):
    peak = hinf_peak(UNSTABLE[name])
    assert np.isposinf(np.ravel(peak.gain)[-1])
    assert np.isnan(np.ravel(peak.omega)[-1])
    np.testing.assert_array_equal(np.isnan(peak.omega), np.isposinf(peak.gain))


def test_frequencies_are_those_of_frequency_response():
    """dt = 0.5: angles of z are omega dt."""
    sys = STABLE["complex_half_period"]
    whole = DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D)
    np.testing.assert_allclose(hinf_peak(sys).omega, hinf_peak(whole).omega / 0.5, rtol=1e-14)


def test_the_gradient_is_that_of_the_gain_at_the_peak():
    """Danskin: the peak frequency moves, which costs nothing in first order."""
    sys = in_torch(STABLE["complex_siso"])
    C = sys.C.clone().requires_grad_()
    moving = DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=C, D=sys.D)
    (of_norm,) = torch.autograd.grad(hinf_norm(moving), C)
    theta = hinf_peak(sys).omega
    (of_gain,) = torch.autograd.grad(torch.abs(moving(torch.exp(1j * theta)))[0, 0], C)
    np.testing.assert_allclose(of_norm.numpy(), of_gain.numpy(), rtol=1e-10)


def test_gradient_at_a_real_pole_seen_from_the_opposite_end(rng):
    """The peak at theta = pi, poles at angle 0: the half angle is pi / 2, where tangents have no derivative."""
    fields = random_fields(3, 2, 1, 1)
    mu = torch.tensor([-0.05 + 1j * np.pi, -0.7 + 0j], dtype=torch.complex128, requires_grad=True)
    rest = {name: torch.tensor(fields[name] if name != "D" else fields[name].real) for name in ("B", "C", "D")}
    assert torch.autograd.gradcheck(lambda mu: hinf_norm(RealDiagonalSSM(log_poles=mu, **rest)), mu, rtol=1e-5)
