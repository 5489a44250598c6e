"""Gain at frequency 0, bandwidth and resonances against closed forms, dense sampling, many digits and python-control."""

from dataclasses import replace

import control
import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import FAMILIES, DiagonalSSM, RealDiagonalSSM, StateSpace, frequency_response
from ssm_analysis.analyses.norms.bode_features import bandwidth, dcgain, resonances
from ssm_analysis.analyses.norms.system_norms import hinf_norm
from ssm_analysis.analyses.responses.frequency import transfer_function
from ssm_analysis.analyses.responses.time import step_response
from tests.support.equivalent_systems import DIFFERENTIABLE, gradients_are_right, in_single, in_strict, lifted, transposed, twins
from tests.support.systems_table import INVARIANT, STABLE, TIME_VARYING, UNSTABLE, in_torch

ONE = np.ones((1, 1))
SISO = [name for name in STABLE if STABLE[name].ninputs == STABLE[name].noutputs == 1]
REAL_SISO = [name for name in SISO if not name.startswith("complex") and not name.startswith("dense_complex")]
AT_ONE = ["diagonal_integrator"]
LEVEL = 10 ** (-3 / 20)


def one_mode(mu, c=1.0, d=0.0, dt=1.0):
    return DiagonalSSM(log_poles=np.array([mu]), B=ONE, C=c * ONE, D=d * ONE, dt=dt)


def resonator(rate, angle):
    """1 / ((z - p) (z - conj p)), p = e^(-rate + i angle): highest at cos(omega) = (1 + r^2) cos(angle) / (2 r), where it is
    1 / ((1 - r^2) sin(angle))."""
    p = np.exp(-rate + 1j * angle)
    return RealDiagonalSSM(log_poles=np.array([-rate + 1j * angle]), B=ONE + 0j, C=ONE * (-1j / p.imag), D=0 * ONE)


def of_zeros_and_poles(zeros, log_poles):
    """prod (z - zero) / prod (z - pole), the poles by their logarithms."""
    poles = np.exp(log_poles)
    residues = [np.prod(p - zeros) / np.prod(np.delete(p - poles, i)) for i, p in enumerate(poles)]
    n = len(poles)
    return DiagonalSSM(log_poles=np.array(log_poles), B=np.ones((n, 1)) + 0j, C=np.array([residues]), D=ONE + 0j)


def gains(sys, omega):
    return np.abs(frequency_response(sys, np.asarray(omega) / sys.dt)[..., 0, 0])


# gain at frequency 0


@pytest.mark.parametrize("name", [name for name in INVARIANT if name not in AT_ONE])
def test_dcgain_is_the_transfer_function_at_1(name):
    sys = INVARIANT[name]
    found = dcgain(sys)
    assert found.shape == (*sys.batch_shape, sys.noutputs, sys.ninputs)
    np.testing.assert_allclose(found, transfer_function(sys, 1.0), rtol=1e-10, atol=1e-13)
    assert np.isrealobj(found) == (isinstance(sys, RealDiagonalSSM) or all(np.isrealobj(getattr(sys, x)) for x in sys.AXES))


@pytest.mark.parametrize("name", ["realpart_siso", "realpart_mimo", "realpart_real_modes", "dense_siso", "dense_mimo", "complex_pairs"])
def test_dcgain_is_python_controls_and_where_a_step_settles(name):
    np.testing.assert_allclose(dcgain(STABLE[name]), np.atleast_2d(control.dcgain(STABLE[name].to_control())), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(step_response(STABLE[name], 2000)[-1], dcgain(STABLE[name]), rtol=1e-10, atol=1e-12)


@given(st.floats(-1, -1e-300), st.floats(-3, 3))
def test_dcgain_next_to_the_circle(decay, angle):
    """1 / (1 - lambda), however small that is."""
    with mpmath.workdps(400):
        want = complex(1 / -mpmath.expm1(mpmath.mpc(decay, angle)))
        real = float(1 / -mpmath.expm1(mpmath.mpf(decay)))
    np.testing.assert_allclose(dcgain(one_mode(complex(decay, angle)))[0, 0], want, rtol=1e-13)
    np.testing.assert_allclose(dcgain(one_mode(decay))[0, 0], real, rtol=1e-15)


def test_dcgain_of_an_integrator_is_infinite():
    sys = INVARIANT["diagonal_integrator"]
    np.testing.assert_array_equal(dcgain(sys), np.inf)
    np.testing.assert_array_equal(dcgain(in_torch(sys)).numpy(), np.inf)
    assert dcgain(one_mode(0j))[0, 0].real == np.inf


@pytest.mark.parametrize("how", ["not reached", "not seen", "canceled", "imaginary"])
def test_dcgain_of_an_integrator_that_does_not_show(how):
    """Its contribution to the kernel is 0."""
    mu, b, c = np.array([0, 0, -1.0]) + 0j, np.ones((3, 1)) + 0j, np.array([[2.0, -2.0, 1.0]]) + 0j
    if how == "not reached":
        b = np.array([[0], [0], [1.0]]) + 0j
    elif how == "not seen":
        c = np.array([[0, 0, 1.0]]) + 0j
    elif how == "imaginary":
        c = np.array([[2j, 1j, 1.0]])
    kind = RealDiagonalSSM if how == "imaginary" else DiagonalSSM
    np.testing.assert_allclose(dcgain(kind(log_poles=mu, B=b, C=c, D=0 * ONE)), [[1 / -np.expm1(-1.0)]], rtol=1e-15)


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_dcgain_of_a_full_matrix_with_an_eigenvalue_at_1(library):
    sys = StateSpace(A=np.diag([1.0, 0.5]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE).map(lambda x: library(np.array(x)))
    with pytest.raises(ValueError, match="dcgain has no answer for an A with an eigenvalue at 1, an integrator"):
        dcgain(sys)


@pytest.mark.parametrize("name", [name for name in INVARIANT if name not in AT_ONE])
def test_dcgain_laws(name):
    sys = INVARIANT[name]
    want = dcgain(sys)
    slow = "light" in name
    for how, twin in twins(sys).items():
        np.testing.assert_allclose(dcgain(twin), want, rtol=1e-9 if slow else 1e-11, atol=1e-12 * np.max(np.abs(want)), err_msg=how)
    np.testing.assert_allclose(dcgain(transposed(sys)), np.matrix_transpose(want), rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(dcgain(in_torch(sys)).numpy(), want, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(np.asarray(dcgain(in_strict(sys))), want, rtol=1e-11, atol=1e-13)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(want[index], dcgain(sys[index]), rtol=1e-12, atol=1e-14)


def test_dcgain_of_a_full_matrix_with_mixed_fields():
    A, B = np.diag([0.5, 0.25]), np.array([[1j], [2.0]])
    for a, b in ((A, B), (A + 0j, B.real), (A, B.real)):
        sys = StateSpace(A=a, B=b, C=np.ones((1, 2)), D=0 * ONE)
        np.testing.assert_allclose(dcgain(sys), [[b[0, 0] / 0.5 + b[1, 0] / 0.75]], rtol=1e-14)
        np.testing.assert_allclose(dcgain(in_torch(sys)).numpy(), [[b[0, 0] / 0.5 + b[1, 0] / 0.75]], rtol=1e-14)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_dcgain_gradients(name):
    assert gradients_are_right(dcgain, STABLE[name])


# bandwidth


@pytest.mark.parametrize("drop_db", [-3.0, -1.0, -20.0])
@pytest.mark.parametrize("rate", [0.5, 1e-1, 1e-3, 1e-6, 1e-9, 1e-12])
def test_bandwidth_of_a_decay(rate, drop_db):
    """|G|^2 = 1 / ((1 - l)^2 + 4 l sin^2(omega / 2))."""
    margin, lam = -np.expm1(-rate), np.exp(-rate)
    sine = margin * np.sqrt(10 ** (-drop_db / 10) - 1) / (2 * np.sqrt(lam))
    want = 2 * np.arcsin(sine) if sine <= 1 else np.inf
    np.testing.assert_allclose(bandwidth(one_mode(-rate), drop_db=drop_db), want, rtol=1e-13)
    np.testing.assert_allclose(bandwidth(one_mode(-rate, c=-5.0, dt=0.25), drop_db=drop_db), 4 * want, rtol=1e-13)


@pytest.mark.parametrize("init", ["lin", "legs", "inv", "real"])
def test_bandwidth_of_s4d_layers_by_dense_sampling(init):
    """The gain is at the level there and nowhere below it before."""
    sys = FAMILIES["s4d"].init(d_model=24, d_state=16, init=init, seed=2).system()
    omega = np.linspace(0, np.pi, 20_001)
    found, sampled, level = bandwidth(sys), gains(sys, omega), LEVEL * np.abs(dcgain(sys)[:, 0, 0])
    assert np.isfinite(found).any()
    for h in range(24):
        below = omega[sampled[h] < level[h]]
        if np.isfinite(found[h]):
            np.testing.assert_allclose(gains(sys[h], found[h : h + 1]), level[h], rtol=1e-10)
            assert not below.size or below[0] >= found[h]
            np.testing.assert_array_less(gains(sys[h], [found[h] * (1 + 1e-7)]), level[h])
        else:
            assert not below.size


@pytest.mark.parametrize("poles", [[-1.0], [-1.0, -30.0], [-1.0 + 2j, -1.0 - 2j], [-5.0, -10.0, -100.0]])
@pytest.mark.parametrize("drop_db", [-3.0, -6.0])
def test_bandwidth_is_python_controls_of_the_continuous_system(poles, drop_db):
    """Sampled 10^5 times per unit of time, zero-order hold changes the gain by less than 1e-4 up to there."""
    theirs = control.ss(control.zpk([], poles, 1.0))
    sampled = theirs.sample(1e-5)
    ours = StateSpace(A=sampled.A, B=sampled.B, C=sampled.C, D=sampled.D, dt=1e-5)
    np.testing.assert_allclose(bandwidth(ours, drop_db=drop_db), control.bandwidth(theirs, drop_db), rtol=1e-4)


def test_what_python_control_answers_for_discrete_systems():
    """G(i omega) instead of G(e^{i omega}), and the signed gain at frequency 0: the docstring says so, and who is right."""
    sys = one_mode(np.log(0.9)).to_control()
    with pytest.raises(ValueError, match="f\\(a\\) and f\\(b\\) must have different signs"):
        control.bandwidth(sys)
    edge = float(bandwidth(one_mode(np.log(0.9))))
    np.testing.assert_allclose(abs(sys(np.exp(1j * edge))), LEVEL * abs(control.dcgain(sys)), rtol=1e-12)
    assert control.bandwidth(one_mode(np.log(0.9), c=-1.0).to_control()) == np.inf


@pytest.mark.parametrize("distance", [1e-5, 1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("rate", [1e-3, 1e-5, 1e-7, 1e-9])
@pytest.mark.parametrize("side", [1, -1])
def test_bandwidth_ends_at_a_narrow_notch(rate, distance, side):
    """A zero on the circle next to a light pole; elsewhere the gain is 1."""
    if distance < 2 * rate:
        return  # hardly a notch
    mu, angle = -rate + 1j * 1.234567, 1.234567 + side * distance
    sys = of_zeros_and_poles(np.exp(1j * np.array([angle, -angle])), np.array([mu, np.conj(mu)]))
    start = abs(dcgain(sys)[0, 0])
    with mpmath.workdps(40):
        poles = [mpmath.exp(mpmath.mpc(x)) for x in (mu, np.conj(mu))]
        zeros = [mpmath.expj(mpmath.mpf(angle)), mpmath.expj(-mpmath.mpf(angle))]

        def excess(omega):
            z = mpmath.expj(omega)
            return abs((z - zeros[0]) * (z - zeros[1]) / ((z - poles[0]) * (z - poles[1]))) - mpmath.mpf(LEVEL * start)

        # above the pole the notch is entered from its side, below it from the other, where the gain is 1
        bracket = (1.234567 + distance / 4, angle) if side == 1 else (angle - 20 * distance, angle)
        want = float(mpmath.findroot(excess, bracket, solver="anderson", tol=1e-25, verify=False))
    np.testing.assert_allclose(bandwidth(sys), want, rtol=0, atol=1e-6 * distance)


@pytest.mark.parametrize("depth", [0.0, 1e-3])
@pytest.mark.parametrize("place", [0.9, 1.7, 2.9])
def test_bandwidth_ends_at_a_notch_between_the_frequencies_of_any_grid(place, depth):
    """Two zeros near the circle, poles behind them that are 50 times the width of the even grid away from nothing: 0.012 rad wide."""
    zero, pole = -depth * 0.006 + 1j * place, -0.006 + 1j * place
    sys = of_zeros_and_poles(np.exp([zero, np.conj(zero)]), np.array([pole, np.conj(pole)]))
    found = bandwidth(sys)
    assert place - 0.01 < found < place
    np.testing.assert_allclose(gains(sys, [found]), LEVEL * abs(dcgain(sys)[0, 0]), rtol=1e-9)


def test_a_resonance_before_the_edge_does_not_end_the_band():
    sys = resonator(1e-4, 0.5)
    found = bandwidth(sys)
    assert found > 0.5
    np.testing.assert_allclose(gains(sys, [found]), LEVEL * dcgain(sys)[0, 0], rtol=1e-10)


def test_bandwidth_without_an_edge_or_without_a_start():
    assert bandwidth(one_mode(-0.1, c=0.0, d=2.0)) == np.inf  # a constant
    assert bandwidth(one_mode(np.log(0.5) + 1j * np.pi)) == np.inf  # a high-pass
    assert np.isnan(bandwidth(one_mode(np.log(0.5), c=-0.5, d=1.0)))  # (z - 1) / (z - 1/2)
    assert np.isnan(bandwidth(one_mode(-0.1, c=0.0)))


@pytest.mark.parametrize("name", UNSTABLE)
def test_unstable_systems_have_no_frequency_response(name):
    sys = UNSTABLE[name]
    if sys.ninputs > 1:
        return
    growing = np.max(np.abs(sys.poles()), axis=-1) >= 1
    assert np.all(np.isnan(bandwidth(sys)[growing]))
    found = resonances(sys, 2)
    assert np.all(np.isnan(found.gain[growing]))
    assert np.all(np.isnan(found.frequency[growing]))
    if not growing.all():
        np.testing.assert_allclose(found.gain[~growing], resonances(sys[0], 2).gain[None], rtol=1e-12)


@pytest.mark.parametrize("name", SISO)
def test_bandwidth_laws(name):
    sys = STABLE[name]
    want = bandwidth(sys)
    assert want.shape == sys.batch_shape
    rtol = 1e-6 if "light" in name else 1e-9
    for how, twin in twins(sys).items():
        np.testing.assert_allclose(bandwidth(twin), want, rtol=rtol, err_msg=how)
    np.testing.assert_allclose(bandwidth(replace(sys, C=-2 * sys.C, D=-2 * sys.D, dt=2 * sys.dt)), want / 2, rtol=1e-11)
    np.testing.assert_allclose(bandwidth(transposed(sys)), want, rtol=1e-11)
    np.testing.assert_allclose(bandwidth(in_torch(sys)).numpy(), want, rtol=1e-11)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(want[index], bandwidth(sys[index]), rtol=1e-11)
    assert np.all((bandwidth(sys, drop_db=-1.0) <= want) | np.isnan(want))


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso"])
def test_32_bits_are_lifted_first(name):
    single = in_single(STABLE[name])
    for f in (dcgain, bandwidth, lambda sys: resonances(sys).gain, lambda sys: resonances(sys).frequency):
        np.testing.assert_array_equal(f(single), f(lifted(single)))


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_batch", "diagonal_real_batch"])
def test_features_need_nothing_but_the_standard(name):
    sys = STABLE[name]
    np.testing.assert_allclose(np.asarray(bandwidth(in_strict(sys))), bandwidth(sys), rtol=1e-12)
    want, found = resonances(sys), resonances(in_strict(sys))
    np.testing.assert_allclose(np.asarray(found.gain), want.gain, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(found.frequency), want.frequency, rtol=1e-6)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso"])
def test_bandwidth_gradients(name):
    sys = STABLE[name]
    lowpass = replace(sys, D=sys.D + 3 * np.sum(np.abs(sys.C)), C=sys.C * (0.5 if "dense" in name else 1))
    drop = next(d for d in (-0.1, -0.3, -1.0, -3.0) if np.isfinite(bandwidth(lowpass, drop_db=d)))
    assert gradients_are_right(lambda s: bandwidth(s, drop_db=drop), lowpass)


def test_bandwidth_gradient_of_a_decay():
    """About d omega / d rate = sqrt(10^0.3 - 1) for slow decays; 0 where there is no edge."""
    mu = torch.tensor([-1e-5], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.float64)
    edge = bandwidth(DiagonalSSM(log_poles=mu, B=one, C=one, D=0 * one))
    (gradient,) = torch.autograd.grad(edge, mu)
    np.testing.assert_allclose(gradient.numpy(), [-np.sqrt(10**0.3 - 1)], rtol=1e-4)
    flat = bandwidth(DiagonalSSM(log_poles=mu, B=one, C=one * 1e-9, D=one))
    assert flat == torch.inf
    assert torch.isfinite(torch.autograd.grad(flat, mu)[0]).all()


# resonances


@pytest.mark.parametrize("angle", [0.3, 1.0, np.pi / 2, 3.0])
@pytest.mark.parametrize("rate", [1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12])
def test_a_resonator(rate, angle):
    """Peak and place in closed form, however light the damping."""
    cosine = np.cosh(rate) * np.cos(angle)  # (1 + r^2) / (2 r) = cosh(rate)
    found = resonances(resonator(rate, angle), 1)
    want = 1 / (-np.expm1(-2 * rate) * np.sin(angle)) if abs(cosine) < 1 else None
    place = np.arccos(cosine) if want else 0.0 if cosine > 0 else np.pi
    if want is None:
        want = gains(resonator(rate, angle), [place])[0]
    np.testing.assert_allclose(found.gain, want, rtol=1e-12 + (1e-15 / rate) ** 2)  # doubles near the peak are 4e-16 apart
    np.testing.assert_allclose(found.frequency, place, rtol=0, atol=1e-6 * rate + 1e-15)


@given(st.floats(-1, -1e-11), st.floats(0.01, 3.1), st.floats(0.1, 10))
def test_one_complex_mode(decay, angle, c):
    """c / (1 - |lambda|) at the angle of the pole; the closest double to it, where a peak is narrow."""
    found = resonances(one_mode(complex(decay, angle), c=c), 1)
    np.testing.assert_allclose(found.gain, c / -np.expm1(decay), rtol=1e-9)
    np.testing.assert_allclose(found.frequency, angle, rtol=0, atol=-1e-6 * decay + 1e-15)


@pytest.mark.parametrize("name", ["s4d-lin", "s4d-legs", "s4d-inv", "table"])
def test_all_peaks_of_a_dense_sampling(name):
    """The highest three, refined; none is missed."""
    if name == "table":
        systems = [STABLE["realpart_batch"][i, j] for i in range(3) for j in range(2)]
    else:
        layer = FAMILIES["s4d"].init(d_model=8, d_state=16, init=name.removeprefix("s4d-"), seed=5)
        systems = list(layer.system())
    omega = np.linspace(0, np.pi, 40_001)
    for sys in systems:
        height = np.pad(gains(sys, omega), 1, constant_values=-1.0)
        top = np.flatnonzero((height[1:-1] > height[:-2]) & (height[1:-1] >= height[2:]))
        top = top[np.argsort(-height[1:-1][top])][:3]
        found = resonances(sys, 3)
        count = len(top)
        assert np.all(np.diff(found.gain[:count]) <= 0)
        np.testing.assert_allclose(np.sort(found.frequency[:count]), np.sort(omega[top]), atol=2 * omega[1])
        np.testing.assert_allclose(found.gain[:count], height[1:-1][top], rtol=1e-2)
        assert np.all(found.gain[:count] >= height[1:-1][top] * (1 - 1e-12))
        assert np.all(np.isnan(found.gain[count:]))


@pytest.mark.parametrize("name", REAL_SISO)
def test_the_highest_is_the_h_infinity_norm(name):
    sys = STABLE[name]
    found = resonances(sys, 1).gain[..., 0]
    constant = np.isnan(found)  # no peak
    height = np.where(constant, np.abs(dcgain(sys)[..., 0, 0]), found)
    np.testing.assert_allclose(height, hinf_norm(sys), rtol=1e-6 if "light" in name else 1e-9)


def test_a_peak_is_a_peak():
    """Lower on both sides, the gain as said."""
    sys = STABLE["realpart_siso"]
    found = resonances(sys, 5)
    assert np.isfinite(found.frequency[0])
    for omega, height in zip(found.frequency, found.gain, strict=True):
        if np.isfinite(omega):
            around = gains(sys, [omega - 1e-5, omega, omega + 1e-5])
            np.testing.assert_allclose(around[1], height, rtol=1e-12)
            assert around[1] > max(around[0], around[2])


def test_the_ends_count_exactly():
    low, high = resonances(one_mode(-0.1)), resonances(one_mode(-0.1 + 1j * np.pi))
    np.testing.assert_array_equal(low.frequency, [0, np.nan, np.nan])
    np.testing.assert_array_equal(high.frequency, [np.pi, np.nan, np.nan])
    for found in (low, high):
        np.testing.assert_allclose(found.gain, [1 / -np.expm1(-0.1), np.nan, np.nan], rtol=1e-13)
    np.testing.assert_array_equal(resonances(one_mode(-0.1 + 1j * np.pi, dt=0.5)).frequency[0], 2 * np.pi)


@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_as_many_as_there_are(count):
    modes = RealDiagonalSSM(
        log_poles=-1e-3 + 1j * np.array([0.5, 1.5, 2.5]), B=np.ones((3, 1)) + 0j, C=np.array([[3.0, 1, 2]]) + 0j, D=0 * ONE
    )
    found = resonances(modes, count)
    assert found.gain.shape == found.frequency.shape == (count,)
    peaks = min(3, count)
    np.testing.assert_allclose(found.frequency[:peaks], [0.5, 2.5, 1.5][:peaks], atol=1e-5)
    assert np.isnan(found.gain[5:]).all()
    np.testing.assert_array_equal(np.isnan(found.gain), np.isnan(found.frequency))


def test_repeated_poles_and_pairs_have_one_peak():
    mu = np.array([-1e-4 + 1j, -1e-4 + 1j, -1e-4 - 1j, -1e-4 - 1j, -1e-4 + 1j + 1e-15])
    sys = DiagonalSSM(log_poles=mu, B=np.ones((5, 1)) + 0j, C=np.ones((1, 5)) + 0j, D=0j * ONE)
    found = resonances(sys, 3)
    np.testing.assert_allclose(found.frequency[0], 1, atol=1e-7)
    np.testing.assert_allclose(found.gain[0], gains(sys, [found.frequency[0]])[0], rtol=1e-9)
    assert np.isnan(found.gain[1:]).all()


@pytest.mark.parametrize("pole", [0.5, 0.9j, -0.3 + 0.2j])
def test_rounding_makes_no_peaks(pole):
    """An all-pass, whose gain is the same everywhere, and a constant."""
    mu = np.log(np.array([pole, np.conj(pole) + 1e-3]))
    allpass = of_zeros_and_poles(1 / np.conj(np.exp(mu)), mu)
    for sys in (allpass, one_mode(-0.1, c=0.0, d=3.0), one_mode(-0.1, c=0.0)):
        assert np.isnan(resonances(sys).gain).all()
        assert np.isnan(resonances(sys.to_dense()).gain).all()


@pytest.mark.parametrize("name", SISO)
def test_resonance_laws(name):
    sys = STABLE[name]
    want = resonances(sys)
    light = "light" in name
    for how, twin in twins(sys).items():
        found = resonances(twin)
        np.testing.assert_allclose(found.gain, want.gain, rtol=1e-5 if light else 1e-9, err_msg=how)
        np.testing.assert_allclose(found.frequency, want.frequency, rtol=0, atol=1e-6, err_msg=how)
    found = resonances(replace(sys, C=-2 * sys.C, D=-2 * sys.D, dt=2 * sys.dt))
    np.testing.assert_allclose(found.gain, 2 * want.gain, rtol=1e-12)
    np.testing.assert_allclose(found.frequency, want.frequency / 2, rtol=1e-9, atol=1e-12)
    found = resonances(in_torch(sys))
    assert isinstance(found.gain, torch.Tensor)
    np.testing.assert_allclose(found.gain.numpy(), want.gain, rtol=1e-9)
    np.testing.assert_allclose(found.frequency.numpy(), want.frequency, atol=1e-6)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(resonances(sys[index]).gain, want.gain[index], rtol=1e-12)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso"])
def test_resonance_gradients(name):
    """Of the heights; at a peak its place does not matter."""
    assert gradients_are_right(lambda s: torch.nan_to_num(resonances(s, 2).gain), STABLE[name])
    sys = in_torch(STABLE[name])
    assert not resonances(sys.map(lambda x: x.requires_grad_())).frequency.requires_grad


# what is refused


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    for f in (bandwidth, resonances):
        for name, what in (("complex_mimo", "2 and 3"), ("complex_one_input", "1 and 2"), ("complex_one_output", "2 and 1")):
            with pytest.raises(ValueError, match=f"{f.__name__} is about one input and one output, got {what}; pick a pair of channels"):
                f(STABLE[name])
        with pytest.raises(TypeError, match=f"{f.__name__} takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV"):
            f(TIME_VARYING["ltv_complex"])
    with pytest.raises(TypeError, match="dcgain takes one of"):
        dcgain(TIME_VARYING["ltv_complex"])
    for drop in (0, 3.0, float("nan")):
        with pytest.raises(ValueError, match=rf"drop_db must be negative \(decibels\), got {drop}"):
            bandwidth(STABLE["complex_siso"], drop_db=drop)
    for count in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=f"count must be a positive integer, got {count}"):
            resonances(STABLE["complex_siso"], count)
