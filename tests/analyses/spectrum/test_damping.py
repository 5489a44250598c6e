"""The damping table against its definitions, MATLAB's published one, python-control and extended precision."""

from dataclasses import fields, replace

import control
import mpmath
import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.spectrum.damping import Damping, damp
from ssm_analysis.systems.discretization import bilinear, zero_order_hold
from tests.support.equivalent_systems import DIFFERENTIABLE, gradients_are_right, in_single, in_strict, lifted
from tests.support.systems_table import INVARIANT, TIME_VARYING, in_torch

NAMES = [field.name for field in fields(Damping)]
REAL_KERNELS = ["realpart_siso", "realpart_real_modes", "dense_siso", "dense_mimo", "complex_pairs", "dense_growing"]


def one_mode(*log_poles, dt=1.0):
    n = len(log_poles)
    return DiagonalSSM(log_poles=np.array(log_poles), B=np.ones((n, 1)), C=np.ones((1, n)), D=np.zeros((1, 1)), dt=dt)


def companion(*coefficients, dt=1.0):
    A, B, C, D = scipy.signal.tf2ss([1.0], coefficients)
    return StateSpace(A=A, B=B, C=C, D=D, dt=dt)


# definitions


@pytest.mark.parametrize("dt", [1.0, 0.25])
@pytest.mark.parametrize("name", INVARIANT)
def test_every_column_is_its_definition(name, dt):
    """MATLAB's: s = log(z) / Ts, wn = |s|, zeta = -cos(angle(s)), tau = 1 / (wn zeta); infinite here for what does not decay."""
    sys = replace(INVARIANT[name], dt=dt)
    table, z = damp(sys), sys.poles().astype(complex)
    s = np.log(np.where(z == 0, 1, z)) / dt
    zero = z == 0
    np.testing.assert_array_equal(table.poles, sys.poles())
    np.testing.assert_allclose(table.magnitude, np.abs(z), rtol=1e-14)
    np.testing.assert_allclose(table.natural_frequency, np.where(zero, np.inf, np.abs(s)), rtol=1e-12)
    still = (s == 0) & ~zero
    zeta = np.where(zero, 1.0, -np.cos(np.angle(s)))
    np.testing.assert_allclose(table.damping, np.where(still, np.nan, zeta), rtol=1e-6, atol=1e-10)
    tau = np.where(zero, 0.0, -1 / np.where(s.real == 0, 1, s.real))
    np.testing.assert_allclose(table.time_constant, np.where(np.abs(z) >= 1, np.inf, tau), rtol=1e-6)
    np.testing.assert_allclose(table.oscillation, np.abs(np.angle(z)) / (2 * np.pi * dt), rtol=1e-10, atol=1e-15)
    assert not table.aliased.any()


def test_matlabs_table():
    """Of z^3 + 6 z^2 + 4 z + 4 at Ts = 0.01, as the documentation of MATLAB's damp prints it."""
    table = damp(companion(1, 6, 4, 4, dt=0.01))
    order = np.argsort(table.natural_frequency)
    np.testing.assert_allclose(table.magnitude[order], [0.861, 0.861, 5.40], rtol=1e-3)
    np.testing.assert_allclose(table.damping[order], [7.74e-2, 7.74e-2, -4.73e-1], rtol=1e-3)
    np.testing.assert_allclose(table.natural_frequency[order], [193, 193, 357], rtol=3e-3)
    np.testing.assert_allclose(table.time_constant[order], [6.68e-2, 6.68e-2, np.inf], rtol=1e-3)


@given(st.floats(0.01, 0.99), st.floats(0.1, 3.0))
def test_a_sampled_resonator_shows_its_damping_and_frequency(zeta, wn):
    """s^2 + 2 zeta wn s + wn^2 under zero-order hold, one step per unit of time."""
    A, *_ = scipy.signal.cont2discrete((np.array([[0.0, 1], [-(wn**2), -2 * zeta * wn]]), np.ones((2, 1)), np.ones((1, 2)), 0), 1.0)
    table = damp(StateSpace(A=A, B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1))))
    np.testing.assert_allclose(table.damping, zeta, rtol=1e-6)
    np.testing.assert_allclose(table.natural_frequency, wn, rtol=1e-6)
    np.testing.assert_allclose(table.oscillation, wn * np.sqrt(1 - zeta**2) / (2 * np.pi), rtol=1e-6)


@given(st.floats(-20, -1e-15), st.floats(-3.14, 3.14))
def test_accuracy(decay, angle):
    """Against 50 digits, however near the circle."""
    with mpmath.workdps(50):
        s = mpmath.mpc(decay, angle)
        wn, zeta, tau = abs(s), -s.real / abs(s), -1 / s.real
    table = damp(one_mode(complex(decay, angle)))
    np.testing.assert_allclose(table.natural_frequency, float(wn), rtol=4e-15)
    np.testing.assert_allclose(table.damping, float(zeta), rtol=4e-15)
    np.testing.assert_allclose(table.time_constant, float(tau), rtol=4e-15)


# special poles


def test_a_pole_at_0_decays_at_once():
    table = damp(replace(INVARIANT["dense_shift_register"], dt=0.5))
    for column, value in {"magnitude": 0, "damping": 1, "natural_frequency": np.inf, "time_constant": 0, "oscillation": 0}.items():
        np.testing.assert_array_equal(getattr(table, column), value)


def test_a_pole_too_small_for_a_double_keeps_its_rate_and_angle():
    table = damp(one_mode(-800 + 2.5j))
    assert table.poles == 0
    assert table.magnitude == 0
    np.testing.assert_allclose(table.natural_frequency, np.hypot(800, 2.5), rtol=1e-15)
    np.testing.assert_allclose(table.oscillation, 2.5 / (2 * np.pi), rtol=1e-15)
    np.testing.assert_allclose(table.time_constant, 1 / 800, rtol=1e-15)


def test_at_1_there_is_nothing_to_damp():
    for sys in (one_mode(0.0), one_mode(0j), companion(1, -1)):
        table = damp(sys)
        np.testing.assert_array_equal(table.damping, np.nan)
        np.testing.assert_array_equal(table.natural_frequency, 0)
        np.testing.assert_array_equal(table.time_constant, np.inf)


def test_on_the_circle_the_damping_is_0_and_outside_negative():
    table = damp(one_mode(0.5j, 1j * np.pi, 0.2 + 0.2j, 0.1 + 0j))
    np.testing.assert_allclose(table.damping, [0, 0, -np.sqrt(0.5), -1], rtol=1e-15)
    np.testing.assert_allclose(table.natural_frequency, [0.5, np.pi, np.sqrt(0.08), 0.1], rtol=1e-15)
    np.testing.assert_array_equal(table.time_constant, np.inf)


@pytest.mark.parametrize("margin", [1e-12, 1e-17, 1e-300])
def test_next_to_the_circle(margin):
    table = damp(one_mode(-margin + 0.5j, -margin + 0j))
    np.testing.assert_allclose(table.damping, [2 * margin, 1], rtol=1e-15)
    np.testing.assert_allclose(table.time_constant, 1 / margin, rtol=1e-15)


# frequencies that one token is too long for


def test_a_frequency_above_half_a_cycle_per_token_is_folded():
    table = damp(one_mode(-0.1 + 4j, -0.1 + 3j, -0.1 - 4j, -0.1 + 1j * np.pi, dt=2.0))
    np.testing.assert_array_equal(table.aliased, [True, False, True, False])
    np.testing.assert_allclose(table.oscillation * 4 * np.pi, [2 * np.pi - 4, 3, 2 * np.pi - 4, np.pi], rtol=1e-14)
    np.testing.assert_allclose(table.natural_frequency * 2, np.hypot(0.1, [2 * np.pi - 4, 3, 2 * np.pi - 4, np.pi]), rtol=1e-14)


def test_zero_order_hold_shows_aliasing_and_the_bilinear_rule_has_none(rng):
    a = -(10.0 ** rng.uniform(-2, 8, size=4000)) + 1j * rng.choice([1e-8, 1e-4, 1.0, 1e3], size=4000) * rng.normal(size=4000)
    one = np.ones((4000, 1))
    for rule in (zero_order_hold, bilinear):
        log_poles, _ = rule(a, one, np.ones(1))
        aliased = damp(DiagonalSSM(log_poles=log_poles, B=one, C=one.T, D=one[:1])).aliased
        np.testing.assert_array_equal(aliased, np.abs(a.imag) > np.pi if rule is zero_order_hold else False)


# laws


@pytest.mark.parametrize("name", [name for name in INVARIANT if isinstance(INVARIANT[name], RealDiagonalSSM)])
def test_both_modes_of_a_pair_have_the_same_row(name):
    sys = INVARIANT[name]
    stored, both = damp(sys), damp(sys.expand())
    for column in NAMES[1:-1]:
        once, twice = ({f"{x:.9g}" for x in np.ravel(getattr(table, column))} for table in (stored, both))
        assert once == twice, column


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_mimo", "complex_batch"])
def test_a_full_matrix_gives_the_same_rows(name):
    sys = INVARIANT[name]
    table, full = damp(sys), damp(sys.to_dense())

    def key(t):
        return np.lexsort((np.round(t.poles.imag, 9), np.round(t.poles.real, 9)))

    for column in NAMES[1:-1]:
        x, y = (np.take_along_axis(getattr(t, column), key(t), axis=-1) for t in (table, full))
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12, err_msg=column)


@pytest.mark.parametrize("name", INVARIANT)
def test_libraries_agree(name):
    sys = INVARIANT[name]
    want, found = damp(sys), damp(in_torch(sys))
    for column in NAMES[1:] if not isinstance(sys, StateSpace) else ["aliased"]:
        assert isinstance(getattr(found, column), torch.Tensor)
        np.testing.assert_allclose(getattr(found, column).numpy(), getattr(want, column), rtol=1e-12, err_msg=column)
    if isinstance(sys, StateSpace):  # eigenvalues in another order, with other roundings
        for column in ("magnitude", "natural_frequency"):
            x, y = (np.sort(np.asarray(getattr(t, column)), axis=-1) for t in (found, want))
            np.testing.assert_allclose(x, y, rtol=1e-6, err_msg=column)
    else:
        strict = damp(in_strict(sys))
        for column in NAMES:
            np.testing.assert_allclose(np.asarray(getattr(strict, column)), getattr(want, column), rtol=1e-14, err_msg=column)


@pytest.mark.parametrize("name", ["complex_batch", "realpart_batch", "dense_batch", "complex_one_of_batch_growing"])
def test_a_batch_answers_member_by_member(name):
    sys = INVARIANT[name]
    table = damp(sys)
    for index in np.ndindex(sys.batch_shape):
        for column in NAMES:
            np.testing.assert_allclose(getattr(table, column)[index], getattr(damp(sys[index]), column), rtol=1e-14)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso"])
def test_32_bits_are_lifted_first(name):
    single = in_single(INVARIANT[name])
    for column in NAMES:
        np.testing.assert_array_equal(getattr(damp(single), column), getattr(damp(lifted(single)), column))


@pytest.mark.parametrize("column", ["magnitude", "damping", "natural_frequency", "oscillation", "time_constant"])
@pytest.mark.parametrize("name", [name for name in DIFFERENTIABLE if name != "realpart_real_modes"])
def test_gradients(name, column):
    sys = INVARIANT[name]
    assert gradients_are_right(lambda s: getattr(damp(s), column), sys, fields=["A" if isinstance(sys, StateSpace) else "log_poles"])


@pytest.mark.parametrize("mu", [0.0, -1.0, 1j * np.pi])
def test_gradients_are_finite_at_special_poles(mu):
    log_poles = torch.tensor([complex(mu)], requires_grad=True)
    one = torch.ones(1, 1, dtype=torch.complex128)
    table = damp(DiagonalSSM(log_poles=log_poles, B=one, C=one, D=one))
    for column in ("magnitude", "damping", "natural_frequency", "oscillation"):
        (gradient,) = torch.autograd.grad(torch.nan_to_num(getattr(table, column)).sum(), log_poles, retain_graph=True)
        assert torch.isfinite(torch.view_as_real(gradient)).all(), column


# python-control


@pytest.mark.parametrize("dt", [1.0, 0.5])
@pytest.mark.parametrize("name", REAL_KERNELS)
def test_python_control(name, dt):
    sys = replace(INVARIANT[name], dt=dt)
    wn, zeta, poles = control.damp(sys.to_control(), doprint=False)
    table = damp(sys.to_dense())
    ours, theirs = (np.lexsort((np.round(p.imag, 9), np.round(p.real, 9))) for p in (table.poles + 0j, poles))
    np.testing.assert_allclose(table.poles[ours], poles[theirs], rtol=1e-9)
    np.testing.assert_allclose(table.natural_frequency[ours], wn[theirs], rtol=1e-9)
    np.testing.assert_allclose(table.damping[ours], zeta[theirs], rtol=1e-9)


@pytest.mark.usefixtures("unchecked_annotations")
def test_time_varying_systems_are_refused():
    with pytest.raises(TypeError, match=r"damp takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalRec.*frozen\(at\)"):
        damp(TIME_VARYING["recurrence_complex"])
