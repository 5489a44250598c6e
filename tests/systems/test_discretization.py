"""Discretization rules against scipy, matrix exponentials and mpmath."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, simulate
from ssm_analysis.systems.discretization import bilinear, euler_input, zero_order_hold

RULES = [zero_order_hold, bilinear, euler_input]
LEFT = st.builds(complex, st.floats(-50.0, -1e-9), st.floats(-30.0, 30.0))
SIZES = 10.0 ** np.arange(-12, 2.5, 0.5)
"""|delta a| of the accuracy tests."""


def dense(a, B):
    n = len(a)
    return np.diag(a), B, np.eye(n), np.zeros((n, B.shape[1]))


# against other implementations


@pytest.mark.parametrize("delta", [1e-6, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("complex_", [False, True])
def test_zero_order_hold_is_scipys(delta, complex_, rng):
    a = -rng.uniform(0.01, 3, size=4) + (1j * rng.normal(size=4) if complex_ else 0)
    B = rng.normal(size=(4, 2)) + (1j * rng.normal(size=(4, 2)) if complex_ else 0)
    A_d, B_d, *_ = scipy.signal.cont2discrete(dense(a, B), delta, method="zoh")
    log_poles, ours = zero_order_hold(a, B, np.full(4, delta))
    np.testing.assert_allclose(np.exp(log_poles), np.diag(A_d), rtol=1e-13)
    np.testing.assert_allclose(ours, B_d, rtol=1e-12, atol=1e-15)


@given(st.one_of(LEFT, st.just(0j), st.builds(complex, st.just(0.0), st.floats(-20, 20))), st.floats(1e-6, 1.0))
def test_zero_order_hold_is_the_augmented_exponential(a, delta):
    """exp(delta [[a, 1], [0, 0]]) = [[lambda, B_d], [0, 1]], also at a = 0."""
    log_poles, B = zero_order_hold(np.array([a]), np.ones((1, 1)), np.array([delta]))
    augmented = scipy.linalg.expm(delta * np.array([[a, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(np.exp(log_poles[0]), augmented[0, 0], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(B[0, 0], augmented[0, 1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("delta", [1e-6, 0.01, 0.3, 5.0])
@pytest.mark.parametrize("complex_", [False, True])
def test_bilinear_is_scipys(delta, complex_, rng):
    """Its B too; its C and D hold the half step that S4 leaves to the sampling of u."""
    a = -rng.uniform(0.01, 3, size=4) + (1j * rng.normal(size=4) if complex_ else 0)
    B = rng.normal(size=(4, 2))
    A_d, B_d, *_ = scipy.signal.cont2discrete(dense(a, B), delta, method="bilinear")
    log_poles, ours = bilinear(a, B, np.full(4, delta))
    np.testing.assert_allclose(np.exp(log_poles), np.diag(A_d), rtol=1e-12)
    np.testing.assert_allclose(ours, B_d, rtol=1e-13)


@pytest.mark.parametrize("rule", RULES)
def test_rules_agree_for_small_steps(rule, rng):
    """All are delta a + O(delta^2) and delta B + O(delta^2)."""
    a, B = -rng.uniform(0.1, 1, 3) + 1j * rng.normal(size=3), rng.normal(size=(3, 1))
    for delta in (1e-3, 1e-5):
        log_poles, B_d = rule(a, B, np.full(3, delta))
        np.testing.assert_allclose(log_poles, delta * a, rtol=delta)
        np.testing.assert_allclose(B_d, delta * B, rtol=3 * delta)


# against many digits: margins 1 - |lambda| depend on Re(log_poles) alone


def exact_log_pole(rule, z):
    return z if rule is not bilinear else mpmath.log((1 + z / 2) / (1 - z / 2))


def exact_gain(rule, z):
    return {zero_order_hold: lambda: mpmath.expm1(z) / z, bilinear: lambda: 1 / (1 - z / 2), euler_input: lambda: mpmath.mpf(1)}[rule]()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("angle", [1.0, 0.6, 0.501, 0.5000001])
def test_margins_lose_nothing(rule, angle):
    """delta a = |delta a| e^{i pi angle}, |delta a| from 1e-12 to 1e2, hard on the imaginary axis too; delta = 1 so that z is exact."""
    z = SIZES * np.exp(1j * np.pi * angle)
    z = np.where(angle == 1.0, z.real, z)
    z = z[np.abs(z + 2) > 0.05]
    log_poles, B = rule(z, np.ones((len(z), 1)), np.ones(1))
    with mpmath.workdps(60):
        exact = [exact_log_pole(rule, mpmath.mpc(complex(x))) for x in z]
        gains = [complex(exact_gain(rule, mpmath.mpc(complex(x)))) for x in z]
        rates = np.array([float(mpmath.re(x)) for x in exact])
    np.testing.assert_allclose(np.real(log_poles), rates, rtol=1e-14)
    np.testing.assert_allclose(np.exp(1j * np.imag(log_poles)), [complex(mpmath.exp(1j * mpmath.im(x))) for x in exact], rtol=1e-13)
    np.testing.assert_allclose(B[:, 0], gains, rtol=3e-15)


@pytest.mark.parametrize("distance", [1e-1, 1e-4, 1e-8, 1e-12])
@pytest.mark.parametrize("direction", [1.0, -1.0, 1j])
def test_bilinear_near_a_pole_at_zero(distance, direction):
    """delta a near -2: |lambda|^2 is far below the rounding of 1."""
    z = np.array([-2 + distance * direction])
    if direction != 1j:
        z = z.real
    with mpmath.workdps(60):
        exact = complex(exact_log_pole(bilinear, mpmath.mpc(complex(z[0]))))
    log_poles, _ = bilinear(z, np.ones((1, 1)), np.ones(1))
    np.testing.assert_allclose(np.real(log_poles[0]), exact.real, rtol=1e-13)


# what the rules are


def test_bilinear_of_a_real_a():
    """Beyond delta a = -2 the pole is negative; then every log-pole is complex, of the positive ones with angle 0."""
    B, one = np.ones((3, 1)), np.ones(3)
    log_poles, _ = bilinear(np.array([-0.5, -1.0, -1.9]), B, one)
    assert log_poles.dtype == np.float64
    log_poles, B_d = bilinear(np.array([-0.5, -3.0, -100.0]), B, one)
    assert log_poles.dtype == np.complex128
    assert B_d.dtype == np.float64
    np.testing.assert_array_equal(np.imag(log_poles), [0, np.pi, np.pi])
    np.testing.assert_allclose(np.real(np.exp(log_poles)), [0.75 / 1.25, -0.5 / 2.5, -49 / 51], rtol=1e-14)
    with_growing, _ = bilinear(np.array([3.0, 1.0]), np.ones((2, 1)), np.ones(2))
    np.testing.assert_allclose(np.exp(with_growing), [-5.0, 3.0], rtol=1e-14)


def test_bilinear_turns_the_left_half_plane_into_the_disk(rng):
    a = rng.normal(size=200) + 5j * rng.normal(size=200)
    log_poles, _ = bilinear(a, np.ones((200, 1)), np.ones(200))
    np.testing.assert_array_equal(np.real(log_poles) < 0, np.real(a) < 0)
    np.testing.assert_array_equal(bilinear(1j * a.imag, np.ones((200, 1)), np.ones(200))[0].real, 0)


def test_bilinear_warps_and_zero_order_hold_does_not():
    """S4D-Lin's top mode, omega delta = 9.74: angle -2.83 aliased, 2.74 warped (2 atan(omega delta / 2))."""
    a, delta = np.array([-0.5 + 97.4j]), np.array([0.1])
    aliased, _ = zero_order_hold(a, np.ones((1, 1)), delta)
    warped, _ = bilinear(a, np.ones((1, 1)), delta)
    np.testing.assert_allclose(np.angle(np.exp(aliased)), 9.74 - 4 * np.pi, atol=1e-12)
    np.testing.assert_allclose(np.imag(warped), 2 * np.arctan(4.87), atol=1e-3)


def dc_gain(log_poles, B):
    return float(DiagonalSSM.from_recurrence(log_poles=log_poles, B=B, C=np.ones((1, 1)), D=np.zeros((1, 1)))(1.0)[0, 0].real)


@pytest.mark.parametrize("z", [1e-3, 0.1, 1.6, 5.0])
def test_gain_of_the_euler_input_over_the_zero_order_hold(z):
    """z / (1 - e^{-z}), 2.0 at z = 1.6."""
    a, B, delta = np.array([-z / 0.1]), np.ones((1, 1)), np.array([0.1])
    ratio = dc_gain(*euler_input(a, B, delta)) / dc_gain(*zero_order_hold(a, B, delta))
    np.testing.assert_allclose(ratio, z / (1 - np.exp(-z)), rtol=1e-11)
    if z == 1.6:
        np.testing.assert_allclose(ratio, 2.0, atol=6e-3)


def test_zero_order_hold_is_exact_for_held_input(rng):
    """A semigroup: eight steps of an eighth with the same input are one step."""
    a, delta, u = np.array([-0.7 + 2j]), 0.3, rng.normal(size=(12, 1))
    coarse = zero_order_hold(a, np.ones((1, 1)), np.array([delta]))
    fine = zero_order_hold(a, np.ones((1, 1)), np.array([delta / 8]))
    C, D = np.ones((1, 1)), np.zeros((1, 1))
    y = simulate(DiagonalSSM.from_recurrence(log_poles=coarse[0], B=coarse[1], C=C, D=D), u)
    y_fine = simulate(DiagonalSSM.from_recurrence(log_poles=fine[0], B=fine[1], C=C, D=D), np.repeat(u, 8, axis=0))
    np.testing.assert_allclose(y_fine[7::8], y, rtol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_integrator(rule):
    log_poles, B = rule(np.zeros(2), np.array([[3.0], [-1.0]]), np.array([0.1, 0.2]))
    np.testing.assert_array_equal(log_poles, 0)
    np.testing.assert_allclose(B, [[0.3], [-0.2]], rtol=1e-15)


# shapes, dtypes, libraries


@pytest.mark.parametrize("rule", RULES)
def test_one_step_per_channel(rule, rng):
    """delta (H, 1), shared a (n) and B (n, 1): each channel as if it were alone."""
    a, B, delta = -rng.random(3) + 1j, rng.normal(size=(3, 2)), rng.uniform(0.1, 1, size=(5, 1))
    log_poles, B_d = rule(a, B, delta)
    assert log_poles.shape == (5, 3)
    assert B_d.shape == (5, 3, 2)
    for channel in range(5):
        alone = rule(a, B, delta[channel])
        np.testing.assert_allclose(log_poles[channel], alone[0], rtol=1e-15)
        np.testing.assert_allclose(B_d[channel], alone[1], rtol=1e-15)


@pytest.mark.parametrize("rule", RULES)
def test_a_shared_input_column_spreads_over_the_states(rule):
    log_poles, B = rule(np.array([-1.0, -0.2, -0.3]), np.ones((1, 1)), np.ones(1))
    assert log_poles.shape == (3,)
    assert B.shape == (3, 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("complex_", [False, True])
def test_single_precision_stays(rule, complex_, rng):
    a = -rng.uniform(0.1, 1, 4) + (1j * rng.normal(size=4) if complex_ else 0)
    B, delta = rng.normal(size=(4, 1)), rng.uniform(0.01, 0.5, 4)
    narrow = rule(a.astype(np.complex64 if complex_ else np.float32), B.astype(np.float32), delta.astype(np.float32))
    for found, want in zip(narrow, rule(a, B, delta), strict=True):
        assert found.dtype == (np.complex64 if np.iscomplexobj(want) else np.float32)
        np.testing.assert_allclose(found, want, rtol=2e-6)


@pytest.mark.parametrize("rule", RULES)
def test_mixed_precision_promotes(rule):
    log_poles, B = rule(np.array([-0.5 + 1j]), np.ones((1, 1), np.float32), np.ones(1, np.float32))
    assert (log_poles.dtype, B.dtype) == (np.complex128, np.complex128 if rule is not euler_input else np.float32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("a", [[-0.5 + 1j, 0j, -3.0], [-0.5, -1.0, 0.0], [-0.5, -5.0, 0.0]], ids=["complex", "real", "beyond"])
def test_torch_equals_numpy(rule, a):
    a, B, delta = np.array(a), np.array([[1.0], [2.0], [-1.0]]), np.array([0.4, 1.0, 0.1])
    for found, want in zip(rule(torch.tensor(a), torch.tensor(B), torch.tensor(delta)), rule(a, B, delta), strict=True):
        assert str(found.dtype).endswith(str(want.dtype))
        np.testing.assert_allclose(found, want, rtol=1e-14)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "a",
    [[-0.5 + 1j, 0j, -3.0 + 0j], [-0.5, -1.0, 0.0], [-0.5, -5.0, 0.0], [-1.9 + 0j, -2.1 + 0.1j, 1e-9j]],
    ids=["complex", "real", "beyond", "near_the_switch"],
)
def test_gradients(rule, a):
    """At a = 0 too, where the gain of the hold is a limit."""
    inputs = (torch.tensor(x, requires_grad=True) for x in (np.array(a), np.ones((3, 2)), np.array([0.4, 1.0, 0.1])))
    assert torch.autograd.gradcheck(rule, tuple(inputs))


# refusals


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize("rule", RULES)
class TestRefusals:
    GOOD = (np.full(3, -1.0), np.ones((3, 1)), np.ones(3))

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_kinds(self, rule, which):
        name, value = ["a", "B", "delta"][which], self.GOOD[which]

        def call(x):
            return rule(*(*self.GOOD[:which], x, *self.GOOD[which + 1 :]))

        with pytest.raises(TypeError, match=f"^{name} must be an array .*, got list"):
            call(value.tolist())
        with pytest.raises(TypeError, match=f"^{name} must hold real or complex floating-point numbers, got int64"):
            call(value.astype(int))
        with pytest.raises(TypeError, match=f"a, B, delta must be arrays of one library, got .*'{name}': 'torch.Tensor'"):
            call(torch.tensor(value))

    def test_complex_steps(self, rule):
        with pytest.raises(ValueError, match="delta must be real, got complex128"):
            rule(*self.GOOD[:2], self.GOOD[2] + 0j)

    @pytest.mark.parametrize(
        ("which", "shape"), [(0, (2,)), (1, (2, 1)), (2, (4,)), (2, (5, 4)), (0, ()), (1, (3,)), (2, ())]
    )  # fmt: skip
    def test_shapes(self, rule, which, shape):
        arguments = (*self.GOOD[:which], np.ones(shape), *self.GOOD[which + 1 :])
        a, B, delta = (str(x.shape).replace("(", r"\(").replace(")", r"\)") for x in arguments)
        wanted = r"a, B and delta must broadcast to \(\*batch, n\), \(\*batch, n, m\) and \(\*batch, n\), got "
        with pytest.raises(ValueError, match=f"{wanted}a {a}, B {B}, delta {delta}; (one step per channel is|a single step is) delta"):
            rule(*arguments)


@pytest.mark.parametrize("value", [-2.0, 2.0, -2.0 + 0j])
def test_a_bilinear_pole_at_zero_or_infinity(value):
    message = "delta a must not be -2 or 2, where the bilinear rule puts the pole at 0 or infinity; change delta a little"
    with pytest.raises(ValueError, match=message):
        bilinear(np.array([-1.0, value / 0.5]), np.ones((2, 1)), np.array([0.5]))
