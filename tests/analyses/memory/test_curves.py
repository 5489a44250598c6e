"""Memory functions against regressions on the state, delay fidelity against kernels, effective order against Hankel matrices."""

from dataclasses import replace

import array_api_strict
import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from ssm_analysis import FAMILIES, DiagonalSSM, RealDiagonalSSM, StateSpace, simulate
from ssm_analysis.analyses.gramians.energy import kernel_energy
from ssm_analysis.analyses.memory.memory_curves import delay_fidelity, effective_order, memory_function
from ssm_analysis.analyses.responses.time import markov_parameters
from tests.support.equivalent_systems import gradients_are_right, in_single, in_strict, lifted, permuted, rotated, scaled, transposed, twins
from tests.support.systems_table import STABLE, TIME_VARYING, UNSTABLE, in_torch, matrices

ONE = np.ones((1, 1))
ONE_INPUT = [name for name in STABLE if STABLE[name].ninputs == 1]
SISO = [name for name in ONE_INPUT if STABLE[name].noutputs == 1]
QUICK = [name for name in ONE_INPUT if "light_damping" not in name]
SILENT = [name for name in STABLE if "zero_input" in name]
REACHABLE = ["complex_siso", "complex_one_input", "complex_one_state", "complex_pairs", "complex_light_damping", "diagonal_real_siso"]
REACHABLE += [
    "realpart_one_state",
    "realpart_all_real",
    "dense_siso",
    "dense_complex",
    "dense_normal",
    "dense_jordan",
    "dense_shift_register",
]
HANKEL = ["complex_siso", "complex_one_output", "complex_repeated", "realpart_siso", "dense_siso", "dense_shift_register"]
MODES = {"complex_repeated": 2, "realpart_repeated": 4, "realpart_real_modes": 7, "realpart_real_modes_batch": 6}
MODES |= {"realpart_real_modes_one_input": 6, "realpart_all_real": 3, "realpart_complex_C_only": 3} | dict.fromkeys(SILENT, 0)
"""How many modes the input reaches, where that is not the number of states, or twice that of a real part."""


def of_poles(*poles, B=None):
    n = len(poles)
    B = np.ones((n, 1)) if B is None else np.array(B)[:, None]
    return DiagonalSSM(log_poles=np.log(np.array(poles, dtype=complex)), B=B + 0j, C=np.ones((1, n)) + 0j, D=0j * ONE)


def number_of_modes(name):
    sys = STABLE[name]
    return MODES.get(name, sys.nstates * (2 if isinstance(sys, RealDiagonalSSM) else 1))


def regression(A, b, length):
    """(A^tau b)* P^-1 A^tau b with P from the linear system P = A P A* + b b*, in 60 digits; A reachable."""
    with mpmath.workdps(60):
        n = len(A)
        A, b = mpmath.matrix(A.tolist()), mpmath.matrix(b.tolist())
        size = range(n)
        equations, right = mpmath.zeros(n * n), mpmath.zeros(n * n, 1)
        for i in size:
            for j in size:
                right[i * n + j] = b[i] * mpmath.conj(b[j])
                for k in size:
                    for m in size:
                        equations[i * n + j, k * n + m] = (i == k and j == m) - A[i, k] * mpmath.conj(A[j, m])
        P = mpmath.lu_solve(equations, right)
        P = mpmath.matrix([[P[i * n + j] for j in size] for i in size])
        x, curve = b, []
        for _ in range(length):
            curve.append(float(mpmath.re((x.H * mpmath.lu_solve(P, x))[0])))
            x = A * x
    return np.array(curve)


# memory function: definitions


@pytest.mark.parametrize("name", REACHABLE)
def test_a_regression_on_the_state(name):
    """Its share of explained variance, by its definition."""
    A, B, _, _ = matrices(STABLE[name].expand() if name.startswith("realpart") else STABLE[name])
    light = 3e-7 if "light" in name else 1e-10  # lambda itself, which the reference starts from, is that uncertain
    np.testing.assert_allclose(memory_function(STABLE[name], 30), regression(A, B, 30), rtol=light, atol=1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "realpart_one_state", "dense_normal"])
def test_a_regression_on_simulated_states(name):
    """White noise in, least squares out; loose, as noise is."""
    sys, T, rng = STABLE[name].to_dense(), 40_000, np.random.default_rng(5)
    u = rng.normal(size=T) + (1j * rng.normal(size=T) if name == "complex_siso" else 0)
    states = StateSpace(A=sys.A, B=sys.B, C=np.eye(sys.nstates), D=np.zeros((sys.nstates, 1)))
    x = simulate(states, u[:, None])[1000:]
    for tau, want in enumerate(memory_function(STABLE[name], 12)):
        target = u[999 - tau : T - 1 - tau]
        guess = x @ np.linalg.lstsq(x, target, rcond=None)[0]
        np.testing.assert_allclose(1 - np.mean(np.abs(target - guess) ** 2) / np.mean(np.abs(target) ** 2), want, atol=0.01)


@pytest.mark.parametrize("name", QUICK)
def test_the_total_is_the_number_of_reached_modes(name):
    curve = memory_function(STABLE[name], 3000)
    assert curve.shape == (*STABLE[name].batch_shape, 3000)
    np.testing.assert_allclose(np.sum(curve, axis=-1), number_of_modes(name), rtol=1e-12, atol=1e-12)
    assert np.all((curve >= 0) & (curve <= 1 + 1e-12))


# memory function: closed forms


@pytest.mark.parametrize("rate", [1.0, 1e-3, 1e-9, 1e-12, 1e-17])
@pytest.mark.parametrize("angle", [0.0, 0.7, np.pi])
def test_one_mode(rate, angle):
    """(1 - |lambda|^2) |lambda|^(2 tau)."""
    sys = DiagonalSSM(log_poles=np.array([-rate + 1j * angle]), B=3 * ONE, C=ONE, D=ONE)
    tau = np.arange(1000)
    np.testing.assert_allclose(memory_function(sys, 1000), -np.expm1(-2 * rate) * np.exp(-2 * rate * tau), rtol=1e-11, atol=1e-300)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("r", [0.5, 0.99])
def test_poles_all_around_a_circle(n, r):
    """A^n = r^n: the state holds n interleaved integrators, (1 - rho^2) rho^(2 floor(tau / n)) with rho = r^n."""
    sys = of_poles(*(r * np.exp(2j * np.pi * np.arange(n) / n)))
    rho, tau = r**n, np.arange(60)
    np.testing.assert_allclose(memory_function(sys, 60), (1 - rho**2) * rho ** (2 * (tau // n)), rtol=1e-11)


def test_a_shift_register_remembers_three_tokens_exactly():
    np.testing.assert_allclose(memory_function(STABLE["dense_shift_register"], 5), [1, 1, 1, 0, 0], atol=1e-15)


def test_a_pole_at_0_and_another():
    """One token exactly, and of the rest what the other mode can tell: (1 - l^2) l^(2 tau - 2)."""
    sys = StateSpace(A=np.diag([0.0, 0.9]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE)
    np.testing.assert_allclose(memory_function(sys, 20), [1, *(0.19 * 0.81 ** np.arange(19))], rtol=1e-12)


# memory function: laws


@pytest.mark.parametrize("name", ONE_INPUT)
def test_how_the_states_are_written_does_not_matter(name):
    sys = STABLE[name]
    for how, twin in twins(sys).items():
        if "repeated" in name and how == "rotated":
            continue  # no input reaches a part of its states; rounding, which differs between processors, says otherwise
        rtol = 1e-6 if "light_damping" in name and how in ("dense", "rotated") else 1e-9
        np.testing.assert_allclose(memory_function(twin, 40), memory_function(sys, 40), rtol=rtol, atol=1e-12, err_msg=how)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso"])
def test_only_poles_matter(name, rng):
    """Neither the weights, as long as they are not 0, nor the read-out."""
    sys = STABLE[name]
    other = replace(sys, B=sys.B * 10.0 ** rng.uniform(-8, 8, size=(4, 1)), C=0 * sys.C, D=0 * sys.D, dt=0.1)
    np.testing.assert_allclose(memory_function(other, 40), memory_function(sys, 40), rtol=1e-11)


def test_more_states_never_remember_less():
    sys = STABLE["complex_siso"]
    for n in (1, 2, 3):
        fewer = replace(sys, log_poles=sys.log_poles[:n], B=sys.B[:n], C=sys.C[:, :n])
        assert np.all(memory_function(fewer, 50) <= memory_function(sys, 50) + 1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "realpart_siso"])
def test_a_mode_that_the_input_does_not_reach_counts_for_nothing(name):
    sys = STABLE[name]
    keep = np.array([1.0, 0.0, 1.0, 1.0])
    without = replace(sys, log_poles=sys.log_poles[keep > 0], B=sys.B[keep > 0], C=sys.C[:, keep > 0])
    silenced = replace(sys, B=sys.B * keep[:, None])
    want = memory_function(without, 40)
    for twin in (silenced, permuted(silenced), silenced.to_dense(), rotated(silenced.to_dense()), scaled(silenced.to_dense())):
        np.testing.assert_allclose(memory_function(twin, 40), want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("full", [False, True])
def test_equal_poles_of_separate_modes_count_once(full):
    sys = of_poles(0.9, 0.5j, 0.9, 0.9, B=[0, 1, 2, 3])
    once = of_poles(0.9, 0.5j)
    np.testing.assert_allclose(memory_function(sys.to_dense() if full else sys, 40), memory_function(once, 40), rtol=1e-9, atol=1e-14)


def test_both_ways_to_write_a_negative_pole_are_one():
    """log(-0.5) is log(0.5) + i pi and log(0.5) - i pi."""
    mu = np.log(0.5) + 1j * np.pi * np.array([1, -1])
    twice = DiagonalSSM(log_poles=mu, B=np.ones((2, 1)) + 0j, C=np.ones((1, 2)) + 0j, D=0j * ONE)
    np.testing.assert_allclose(memory_function(twice, 20), memory_function(of_poles(-0.5), 20), rtol=1e-12)


def test_poles_that_nearly_meet_are_a_jordan_block():
    """In the limit, which a regression on P^-1 cannot take: its condition is 1e24 here."""
    close = of_poles(0.8, 0.8 + 1e-8, 0.8 - 1e-8, 0.8 + 1e-8j)
    np.testing.assert_allclose(memory_function(close, 40), memory_function(STABLE["dense_jordan"], 40), rtol=1e-6)


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 513])
def test_a_shorter_curve_is_the_beginning_of_a_longer_one(length):
    sys = STABLE["complex_light_damping"]
    curve = memory_function(sys, 600)
    np.testing.assert_allclose(memory_function(sys, length), curve[:length], rtol=1e-13)
    rate = 1e-9
    assert curve[599] > rate  # not yet over


@pytest.mark.parametrize("name", ONE_INPUT)
def test_libraries_agree(name):
    sys = STABLE[name]
    want, found = memory_function(sys, 20), memory_function(in_torch(sys), 20)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-9, atol=1e-13)
    version = "2025.12" if isinstance(sys, StateSpace) else "2024.12"  # the first with eigenvalues
    with array_api_strict.ArrayAPIStrictFlags(api_version=version):
        np.testing.assert_allclose(np.asarray(memory_function(in_strict(sys), 20)), want, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso"])
def test_32_bits_are_lifted_first(name):
    single = in_single(STABLE[name])
    for f in (lambda sys: memory_function(sys, 9), lambda sys: delay_fidelity(sys, 9), effective_order):
        np.testing.assert_array_equal(f(single), f(lifted(single)))


@pytest.mark.parametrize("name", [name for name in ONE_INPUT if STABLE[name].batch_shape])
def test_a_batch_answers_member_by_member(name):
    sys = STABLE[name]
    together = memory_function(sys, 25)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(together[index], memory_function(sys[index], 25), rtol=1e-10, atol=1e-14)


def test_a_batch_whose_members_reach_different_numbers_of_states():
    sys = STABLE["dense_batch"]
    silenced = replace(sys, B=sys.B * np.array([1.0, 0.0])[:, None, None])
    np.testing.assert_allclose(np.sum(memory_function(silenced, 800), axis=-1), [[3, 0], [3, 0]], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "realpart_siso", "dense_siso", "dense_complex"])
def test_gradients(name):
    sys = STABLE[name]
    fields = ["A"] if isinstance(sys, StateSpace) else ["log_poles"]
    assert gradients_are_right(lambda s: memory_function(s, 6), sys, fields=fields)


# memory function: full matrices far from normal, and Gramians that cannot be inverted


def regression_in_64_bits(A, b, length):
    P = scipy.linalg.solve_discrete_lyapunov(A, b @ b.conj().T)
    states = np.stack([np.linalg.matrix_power(A, tau) @ b[:, 0] for tau in range(length)], axis=-1)
    return np.sum(states.conj() * np.linalg.lstsq(P, states, rcond=None)[0], axis=0).real


@pytest.mark.parametrize("n", [8, 64])
def test_an_s4_layer(n):
    """All of the 64 computed eigenvalues of HiPPO-LegS are wrong; enclosures of the true ones give the same curve."""
    layer = FAMILIES["s4"].init(d_model=2, d_state=n, dt_min=0.05, dt_max=0.2, seed=1)
    sys, mu = layer.system(), layer.spectrum().log_poles
    exact = DiagonalSSM(log_poles=mu, B=np.ones((n, 1)) + 0j, C=np.ones((1, n)) + 0j, D=0j * ONE)
    curve = memory_function(sys, 600)
    np.testing.assert_allclose(curve, memory_function(exact, 600), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(curve[0], regression_in_64_bits(sys.A[0], sys.B[0], 600), rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(np.sum(curve, axis=-1), n, rtol=1e-9)
    assert n == 8 or np.max(np.min(np.abs(sys.poles()[0][:, None] / np.exp(mu[0]) - 1), axis=0)) > 5e-3


def test_real_decays_whose_gramian_cannot_be_inverted():
    """32 rates 1, 2, ..., 32 (S4D-Real), mixed to a full matrix: a regression on P finds less than half of the memory."""
    sys = rotated(DiagonalSSM(log_poles=-0.05 * np.arange(1, 33), B=np.ones((32, 1)), C=np.ones((1, 32)), D=ONE).to_dense())
    assert np.sum(regression_in_64_bits(sys.A, sys.B, 600)) < 16
    np.testing.assert_allclose(np.sum(memory_function(sys, 600)), 32, rtol=1e-12)
    np.testing.assert_allclose(memory_function(sys, 600)[:40], many_digits(-0.05 * np.arange(1, 33), 40), rtol=1e-10)


def many_digits(mu, length):
    """sum_i |phi_i[tau]|^2 with phi_i by the recursion of the all-pass cascade, token by token, 60 digits."""
    with mpmath.workdps(60):
        poles = [mpmath.exp(mpmath.mpf(float(m))) for m in mu]
        x, curve, v = [mpmath.mpf(0)] * len(poles), [], mpmath.mpf(1)
        for _ in range(length):
            following, v = [], mpmath.mpf(1) if not curve else mpmath.mpf(0)
            for pole, state in zip(poles, x, strict=True):
                g = mpmath.sqrt(1 - pole**2)
                following.append(pole * state + g * v)
                v = g * state - pole * v
            x = following
            curve.append(float(mpmath.fsum(s**2 for s in x)))
    return np.array(curve)


def test_an_eigenvalue_that_rounding_moves_onto_the_circle_explains_nothing():
    A = np.array([[1 - 2.0**-53, 1.0], [0.0, 0.5]])
    curve = memory_function(StateSpace(A=A, B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE), 50)
    np.testing.assert_allclose(np.sum(curve), 1, rtol=1e-9)  # the other mode, 3/4 of it at once
    assert np.all(np.isfinite(curve))


# memory function: what is refused


@pytest.mark.usefixtures("unchecked_annotations")
def test_memory_function_errors():
    with pytest.raises(ValueError, match=r"memory_function is about one input, got 2; pick one: replace\(sys, B=sys.B\[..., :1\]"):
        memory_function(STABLE["complex_mimo"], 5)
    for bad in (0, -1, 2.5, True):
        with pytest.raises(ValueError, match=rf"length must be a positive integer \(tokens\), got {bad}"):
            memory_function(STABLE["complex_siso"], bad)
    with pytest.raises(TypeError, match="memory_function takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV"):
        memory_function(TIME_VARYING["ltv_complex"], 5)


@pytest.mark.parametrize("name", [name for name in UNSTABLE if UNSTABLE[name].ninputs == 1])
def test_unstable_states_have_no_stationary_variance(name):
    with pytest.raises(ValueError, match=r"memory_function needs stable systems.*no stationary variance"):
        memory_function(UNSTABLE[name], 5)


def test_the_advice_for_several_inputs_works():
    sys = STABLE["complex_mimo"]
    curve = memory_function(replace(sys, B=sys.B[..., :1], D=sys.D[..., :1]), 2000)
    np.testing.assert_allclose(np.sum(curve), sys.nstates, rtol=1e-12)


# delay fidelity


@pytest.mark.parametrize("name", [name for name in SISO if "light_damping" not in name])
def test_fidelity_is_a_share_of_the_kernel(name):
    sys = STABLE[name]
    power = np.abs(markov_parameters(sys, 3000)[..., 0, 0]) ** 2
    found = delay_fidelity(sys, 50)
    np.testing.assert_allclose(found, power[..., :50] / np.sum(power, axis=-1, keepdims=True), rtol=1e-11, atol=1e-30)
    np.testing.assert_allclose(np.sum(delay_fidelity(sys, 3000), axis=-1), 1, rtol=1e-11)


def test_a_shift_register_is_a_pure_delay():
    np.testing.assert_array_equal(delay_fidelity(STABLE["dense_shift_register"], 6), [0, 0, 0, 1, 0, 0])


def test_fidelity_of_white_noise():
    """Squared correlation of the output with the delayed input."""
    sys, T = STABLE["realpart_siso"], 100_000
    u = np.random.default_rng(8).normal(size=T)
    y = simulate(sys, u[:, None])[:, 0]
    for d, want in enumerate(delay_fidelity(sys, 5)):
        np.testing.assert_allclose(np.corrcoef(y[2000:], u[2000 - d : T - d])[0, 1] ** 2, want, atol=0.02)


@pytest.mark.parametrize("name", ["complex_siso", "realpart_siso", "dense_siso"])
def test_no_read_out_does_better_than_the_memory_function_and_the_best_does_as_well(name):
    sys = replace(STABLE[name], D=0 * STABLE[name].D)
    limit = memory_function(sys, 20)
    assert np.all(delay_fidelity(sys, 21)[1:] <= limit + 1e-12)
    full = sys.to_dense()
    P = scipy.linalg.solve_discrete_lyapunov(full.A, full.B @ full.B.conj().T)
    for tau in (0, 3, 9):
        best = np.linalg.solve(P, np.linalg.matrix_power(full.A, tau) @ full.B).conj().T
        np.testing.assert_allclose(delay_fidelity(replace(full, C=best), tau + 2)[tau + 1], limit[tau], rtol=1e-8)


def test_fidelity_laws():
    for name in ("complex_batch", "realpart_batch", "dense_batch"):
        sys = STABLE[name]
        want = delay_fidelity(sys, 9)
        np.testing.assert_allclose(delay_fidelity(replace(sys, C=5 * sys.C, D=5 * sys.D), 9), want, rtol=1e-13)
        np.testing.assert_allclose(delay_fidelity(transposed(sys), 9), want, rtol=1e-11)
        np.testing.assert_allclose(delay_fidelity(in_torch(sys), 9).numpy(), want, rtol=1e-11)
        np.testing.assert_allclose(np.asarray(delay_fidelity(in_strict(sys), 9)), want, rtol=1e-11)
        for index in np.ndindex(sys.batch_shape):
            np.testing.assert_allclose(want[index], delay_fidelity(sys[index], 9), rtol=1e-11)


def test_fidelity_has_gradients():
    for name in ("complex_siso", "realpart_siso", "dense_siso"):
        assert gradients_are_right(lambda s: delay_fidelity(s, 4), STABLE[name])


@pytest.mark.parametrize("name", [name for name in UNSTABLE if UNSTABLE[name].ninputs == UNSTABLE[name].noutputs == 1])
def test_fidelity_of_a_kernel_without_end(name):
    """Not defined, and no overflow on the way."""
    sys = UNSTABLE[name]
    np.testing.assert_array_equal(np.isnan(delay_fidelity(sys, 5000)[..., 0]), np.isinf(kernel_energy(sys)))


def test_fidelity_of_a_kernel_that_is_zero():
    sys = STABLE["complex_zero_input"]
    np.testing.assert_array_equal(delay_fidelity(replace(sys, D=0 * sys.D), 3), np.nan)
    np.testing.assert_array_equal(delay_fidelity(sys, 3), [1, 0, 0])


@pytest.mark.usefixtures("unchecked_annotations")
def test_fidelity_errors():
    with pytest.raises(ValueError, match="delay_fidelity is about one input and one output, got 2 and 3"):
        delay_fidelity(STABLE["complex_mimo"], 5)
    with pytest.raises(ValueError, match="delay_fidelity is about one input and one output, got 1 and 2"):
        delay_fidelity(STABLE["complex_one_input"], 5)
    for bad in (0, 1.5, False):
        with pytest.raises(ValueError, match=rf"delays must be a positive integer \(tokens\), got {bad}"):
            delay_fidelity(STABLE["complex_siso"], bad)
    with pytest.raises(TypeError, match="delay_fidelity takes one of"):
        delay_fidelity(TIME_VARYING["ltv_complex"], 5)


# effective order


def hankel_values(sys, length=250):
    """Singular values of the matrix that maps past inputs to future outputs."""
    K = markov_parameters(sys, 2 * length)
    blocks = [[K[i + j + 1] for j in range(length)] for i in range(length)]
    return np.linalg.svd(np.block(blocks), compute_uv=False)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99, 0.99999])
@pytest.mark.parametrize("name", HANKEL)
def test_order_counts_hankel_singular_values(name, share):
    sys = STABLE[name]
    passed = np.cumsum(hankel_values(sys))
    assert effective_order(sys, share=share) == 1 + np.sum(passed < share * passed[-1])


def test_orders_by_hand():
    sys = STABLE["dense_shift_register"]  # three values, all 1
    assert [float(effective_order(sys, share=s)) for s in (0.01, 0.33, 0.34, 0.66, 0.67, 0.999)] == [1, 1, 2, 2, 3, 3]
    assert effective_order(STABLE["complex_one_state"]) == 1
    assert effective_order(of_poles(0.9, 0.9, 0.9)) == 1
    for name in SILENT:
        assert effective_order(STABLE[name]) == 0


def test_a_pair_counts_twice():
    """Far inside the circle at a right angle, both values of the pair are about equal."""
    sys = RealDiagonalSSM(log_poles=np.array([-0.01 + 0.5j * np.pi]), B=ONE + 0j, C=ONE + 0j, D=0 * ONE)
    assert effective_order(sys) == 2


@pytest.mark.parametrize("name", ["complex_batch", "realpart_mimo_batch", "dense_batch", "realpart_mimo", "dense_complex_mimo"])
def test_order_laws(name):
    sys = STABLE[name]
    want = effective_order(sys)
    assert want.shape == sys.batch_shape
    for twin in (*twins(sys).values(), transposed(sys), replace(sys, C=1e-3 * sys.C, D=7 + sys.D)):
        np.testing.assert_array_equal(effective_order(twin), want)
    np.testing.assert_array_equal(effective_order(in_torch(sys)).numpy(), want)
    np.testing.assert_array_equal(np.asarray(effective_order(in_strict(sys))), want)
    for index in np.ndindex(sys.batch_shape):
        assert want[index] == effective_order(sys[index])
    assert np.all(effective_order(sys, share=0.5) <= want)


def test_orders_have_no_gradient():
    assert not effective_order(in_torch(STABLE["complex_siso"]).map(lambda x: x.requires_grad_())).requires_grad


@pytest.mark.usefixtures("unchecked_annotations")
def test_order_errors():
    for share in (0, 1, -0.1, 3.0):
        with pytest.raises(ValueError, match=f"share must lie between 0 and 1, both excluded, got {share}"):
            effective_order(STABLE["complex_siso"], share=share)
    with pytest.raises(ValueError, match="needs stable systems"):
        effective_order(UNSTABLE["complex_growing"])
    with pytest.raises(TypeError, match="effective_order takes one of"):
        effective_order(TIME_VARYING["ltv_complex"])
