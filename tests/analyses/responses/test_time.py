"""Markov parameters, impulse and step response against their definitions, python-control and extended precision."""

from dataclasses import replace

import control
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import FAMILIES, DiagonalSSM, RealDiagonalSSM, StateSpace, simulate
from ssm_analysis.analyses.norms.bode_features import dcgain
from ssm_analysis.analyses.responses.time import impulse_response, markov_parameters, step_response
from tests.support.equivalent_systems import (
    DIFFERENTIABLE,
    gradients_are_right,
    in_single,
    in_strict,
    lifted,
    side_by_side,
    transposed,
    twins,
)
from tests.support.systems_table import INVARIANT, STABLE, TIME_VARYING, in_torch, loop, matrices, random_fields

RESPONSES = [markov_parameters, impulse_response, step_response]
LENGTH = 13
PULSE, STEP = np.eye(LENGTH)[0], np.ones(LENGTH)
BATCHES = ["complex_batch", "realpart_mimo_batch", "realpart_real_modes_batch", "dense_batch", "complex_one_of_batch_growing"]
REAL_KERNELS = ["realpart_siso", "realpart_real_modes", "realpart_mimo", "dense_siso", "dense_mimo", "diagonal_real_mimo", "complex_pairs"]


def driven(sys, index, signal):
    """One column for each input: the output, step by step, where that input is ``signal`` and the others are 0."""
    A, B, C, D = (M[None] for M in matrices(sys, index))
    columns = [loop(A, B, C, D, signal[:, None] * np.eye(sys.ninputs)[i]) for i in range(sys.ninputs)]
    return np.stack(columns, axis=-1)


# definitions


@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize(("f", "signal"), [(markov_parameters, PULSE), (impulse_response, PULSE), (step_response, STEP)])
def test_responses_are_outputs_of_the_recurrence(f, signal, name):
    sys = INVARIANT[name]
    found = f(sys, LENGTH)
    assert found.shape == (*sys.batch_shape, LENGTH, sys.noutputs, sys.ninputs)
    assert np.isrealobj(found) == (isinstance(sys, RealDiagonalSSM) or all(np.isrealobj(getattr(sys, x)) for x in sys.AXES))
    for index in np.ndindex(sys.batch_shape):
        want = driven(sys, index, signal)
        np.testing.assert_allclose(found[index], want, rtol=1e-12, atol=1e-13 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", ["complex_siso", "realpart_siso", "dense_siso", "complex_growing", "dense_growing"])
def test_responses_are_what_simulate_answers(name):
    sys = INVARIANT[name]
    np.testing.assert_allclose(impulse_response(sys, 50)[:, :, 0], simulate(sys, np.eye(50, 1)), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(step_response(sys, 50)[:, :, 0], simulate(sys, np.ones((50, 1))), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257])
@pytest.mark.parametrize("name", ["complex_mimo", "realpart_siso", "dense_mimo"])
def test_a_shorter_response_is_the_beginning_of_a_longer_one(name, length):
    for f in RESPONSES:
        np.testing.assert_allclose(f(STABLE[name], length), f(STABLE[name], 300)[:length], rtol=1e-12, atol=1e-13)


def test_a_shift_register_delays_by_three():
    """All poles at exactly 0."""
    sys = STABLE["dense_shift_register"]
    np.testing.assert_array_equal(impulse_response(sys, 6)[:, 0, 0], [0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(step_response(sys, 6)[:, 0, 0], [0, 0, 0, 1, 1, 1])


@given(st.floats(-3, 0.5), st.floats(-7, 7), st.integers(1, 40))
def test_one_mode(decay, angle, length):
    """D, then c b lambda^(k-1)."""
    mu, b, c, d = complex(decay, angle), 2.0 - 1j, 0.5j, -0.25 + 0j
    sys = DiagonalSSM(log_poles=np.array([mu]), B=np.array([[b]]), C=np.array([[c]]), D=np.array([[d]]))
    k = np.arange(1, length)
    want = np.concatenate([[d], c * b * np.exp(mu) ** (k - 1)])
    np.testing.assert_allclose(impulse_response(sys, length)[:, 0, 0], want, rtol=1e-12, atol=1e-13 * np.max(np.abs(want)))
    total = np.cumsum(want)
    np.testing.assert_allclose(step_response(sys, length)[:, 0, 0], total, rtol=1e-11, atol=1e-12 * np.max(np.abs(total)))


# laws


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.parametrize("name", INVARIANT)
def test_how_the_states_are_written_does_not_matter(name, f):
    sys = INVARIANT[name]
    want = f(sys, LENGTH)
    for how, twin in twins(sys).items():
        np.testing.assert_allclose(f(twin, LENGTH), want, rtol=1e-11, atol=1e-11 * np.max(np.abs(want)), err_msg=how)


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.parametrize("name", INVARIANT)
def test_libraries_agree(name, f):
    sys = INVARIANT[name]
    want, found = f(sys, LENGTH), f(in_torch(sys), LENGTH)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-12, atol=1e-13 * np.max(np.abs(want)))
    np.testing.assert_allclose(np.asarray(f(in_strict(sys), LENGTH)), want, rtol=1e-12, atol=1e-13 * np.max(np.abs(want)))


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_answers_member_by_member(name, f):
    sys = INVARIANT[name]
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(f(sys, LENGTH)[index], f(sys[index], LENGTH), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("f", RESPONSES)
def test_the_transposed_system_has_the_transposed_response(f):
    for name in ("complex_mimo", "realpart_mimo", "dense_mimo", "dense_complex_mimo"):
        sys = STABLE[name]
        np.testing.assert_allclose(f(transposed(sys), LENGTH), np.matrix_transpose(f(sys, LENGTH)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("f", RESPONSES)
def test_parallel_systems_add(f):
    one, other = (DiagonalSSM(**random_fields(seed, 3, 2, 2)) for seed in (70, 71))
    np.testing.assert_allclose(f(side_by_side(one, other), LENGTH), f(one, LENGTH) + f(other, LENGTH), rtol=1e-12, atol=1e-13)


def test_a_step_is_a_sum_of_impulses_and_settles_at_the_gain_at_frequency_0():
    for name in ("complex_mimo", "realpart_batch", "dense_mimo"):
        sys = STABLE[name]
        np.testing.assert_allclose(
            np.diff(step_response(sys, 60), axis=-3), impulse_response(sys, 60)[..., 1:, :, :], rtol=1e-9, atol=1e-12
        )
        np.testing.assert_allclose(step_response(sys, 1500)[..., -1, :, :], dcgain(sys), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["complex_siso", "realpart_mimo", "dense_mimo"])
def test_32_bits_are_lifted_first(name):
    single = in_single(STABLE[name])
    for f in RESPONSES:
        np.testing.assert_array_equal(f(single, LENGTH), f(lifted(single), LENGTH))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name):
    for f in (impulse_response, step_response):
        assert gradients_are_right(lambda sys, f=f: f(sys, 5), STABLE[name])


# other implementations


@pytest.mark.parametrize("name", REAL_KERNELS)
@pytest.mark.parametrize("dt", [1.0, 0.5])
def test_python_control(name, dt):
    sys = replace(STABLE[name], dt=dt)
    theirs, T = sys.to_control(), dt * np.arange(40)
    impulse, step = (f(theirs, T).outputs.reshape(sys.noutputs, sys.ninputs, -1) for f in (control.impulse_response, control.step_response))
    np.testing.assert_allclose(impulse_response(sys, 40), np.moveaxis(impulse * dt, -1, 0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(step_response(sys, 40), np.moveaxis(step, -1, 0), rtol=1e-10, atol=1e-12)


def test_python_control_identifies_the_markov_parameters():
    """From an input and the output it causes, both known completely."""
    sys, u = STABLE["realpart_siso"], np.zeros((30, 1))
    u[:3, 0] = 1.0, -0.4, 0.2
    found = control.markov(simulate(sys, u).T, u.T, 30, dt=True)
    np.testing.assert_allclose(markov_parameters(sys, 30)[:, 0, 0], np.squeeze(found), rtol=1e-10, atol=1e-12)


def long_double_kernel(sys, length):
    """D, then Re sum_i c_i b_i exp((k-1) mu_i), in 80 bits."""
    mu = np.asarray(sys.log_poles).astype(np.clongdouble)
    W = (np.asarray(sys.C)[0] * np.asarray(sys.B)[:, 0]).astype(np.clongdouble)
    k = np.arange(length - 1, dtype=np.longdouble)
    K = np.concatenate([np.real(np.exp(k[i : i + 2048, None] * mu) @ W) for i in range(0, len(k), 2048)])
    return np.concatenate([np.asarray(sys.D)[0].astype(np.longdouble), K])


def test_accuracy_over_16384_tokens():
    """Relative to the largest value, of a fresh S4D-Lin layer, steps from 1e-3 to 1e-1."""
    sys = FAMILIES["s4d"].init(d_model=6, d_state=64, init="lin", seed=3).system()
    K, S = impulse_response(sys, 16384)[..., 0, 0], step_response(sys, 16384)[..., 0, 0]
    for h in range(6):
        want = long_double_kernel(sys[h], 16384)
        np.testing.assert_allclose(K[h], want.astype(float), rtol=0, atol=1e-13 * float(np.max(np.abs(want))))
        total = np.cumsum(want)
        np.testing.assert_allclose(S[h], total.astype(float), rtol=0, atol=1e-12 * float(np.max(np.abs(total))))


def test_a_pole_near_the_circle_over_a_million_tokens():
    """1 - 1e-12: lambda rounded to a double would be off by 1e-16 a token, 1e-10 at the end."""
    sys = DiagonalSSM(log_poles=np.array([-1e-12 + 0.1j]), B=np.ones((1, 1)), C=np.ones((1, 1)), D=np.zeros((1, 1)))
    K = impulse_response(sys, 10**6)[-1, 0, 0]
    np.testing.assert_allclose(abs(K), np.exp(-1e-12 * (10**6 - 2)), rtol=1e-14)


# what is refused


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.parametrize("length", [0, -3, True])
@pytest.mark.usefixtures("unchecked_annotations")
def test_length_must_be_positive(f, length):
    with pytest.raises(ValueError, match=rf"length must be a positive integer \(tokens\), got {length}"):
        f(STABLE["complex_siso"], length)


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.usefixtures("unchecked_annotations")
def test_length_must_be_an_integer(f):
    with pytest.raises(ValueError, match=r"length must be a positive integer \(tokens\), got 2.5"):
        f(STABLE["complex_siso"], 2.5)


@pytest.mark.parametrize("f", RESPONSES)
@pytest.mark.usefixtures("unchecked_annotations")
def test_time_varying_systems_have_no_kernel(f):
    with pytest.raises(
        TypeError, match=rf"{f.__name__} takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV.*frozen\(at\)"
    ):
        f(TIME_VARYING["ltv_complex"], 4)


def test_a_full_matrix_without_states_to_reach():
    """B = 0: the kernel is D and zeros."""
    sys = StateSpace(A=np.diag([0.5, 0.2]), B=np.zeros((2, 1)), C=np.ones((1, 2)), D=np.ones((1, 1)))
    np.testing.assert_array_equal(impulse_response(sys, 4)[:, 0, 0], [1, 0, 0, 0])
