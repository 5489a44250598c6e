"""Transfer function, frequency response and Markov parameters, against their definitions and against each other."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssm_analysis.analyses.responses.frequency
from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace, frequency_response
from ssm_analysis.analyses.responses.frequency import transfer_function
from ssm_analysis.analyses.responses.kernels import kernel
from tests.support.systems_table import INVARIANT, STABLE, TIME_VARYING, in_torch, matrices, random_fields

ONE = np.ones((1, 1))
Z = np.array([[1.7, -1.1j, 0.8 + 0.8j], [0.1 + 1.4j, -2.0, 0.98 * np.exp(0.3j)]])
INTEGRATOR = INVARIANT["diagonal_integrator"]


def definition(sys, index, z):
    """C (z - A)^{-1} B + D by one dense solution."""
    A, B, C, D = matrices(sys, index)
    return C @ np.linalg.solve(z * np.eye(len(A)) - A, B) + D


# transfer function


@pytest.mark.parametrize("name", INVARIANT)
def test_transfer_function_is_its_definition(name):
    sys = INVARIANT[name]
    G = sys(Z)
    assert G.shape == (*sys.batch_shape, 2, 3, sys.noutputs, sys.ninputs)
    for index in np.ndindex(sys.batch_shape):
        for i, j in np.ndindex(2, 3):
            np.testing.assert_allclose(G[(*index, i, j)], definition(sys, index, Z[i, j]), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["complex_batch", "realpart_mimo", "dense_mimo"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_number_and_an_array_of_it_are_the_same_question(name, library):
    sys = INVARIANT[name] if library == "numpy" else in_torch(INVARIANT[name])
    want = np.asarray(INVARIANT[name](np.array([2.0 + 1.0j]))[..., 0, :, :])
    for z in (2 + 1j, np.complex128(2 + 1j), sys.xp.asarray(2 + 1j)):
        np.testing.assert_allclose(np.asarray(sys(z)), want, rtol=1e-13)
    for z in (2, 2.0, np.float64(2.0)):
        np.testing.assert_allclose(np.asarray(sys(z)), np.asarray(INVARIANT[name](np.array(2.0 + 0j))), rtol=1e-13)
    assert sys(sys.xp.ones((0, 4), dtype=sys.xp.complex128)).shape == (*sys.batch_shape, 0, 4, sys.noutputs, sys.ninputs)


@pytest.mark.parametrize("name", INVARIANT)
def test_a_batch_answers_member_by_member(name):
    sys = INVARIANT[name]
    omega = np.linspace(-3, 3, 7)
    responses, kernels = frequency_response(sys, omega), kernel(sys, 6)
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_allclose(responses[index], frequency_response(sys[index], omega), rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(kernels[index], kernel(sys[index], 6), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", STABLE)
def test_forms_of_one_system_have_one_transfer_function(name):
    sys = STABLE[name]
    tolerance = 1e-12 * np.max(np.abs(sys(Z)))
    np.testing.assert_allclose(sys.to_dense()(Z), sys(Z), rtol=1e-12, atol=tolerance)
    np.testing.assert_allclose(kernel(sys.to_dense(), 9), kernel(sys, 9), rtol=1e-12, atol=1e-12)
    if isinstance(sys, RealDiagonalSSM):
        np.testing.assert_allclose(sys.expand()(Z), sys(Z), rtol=1e-12, atol=tolerance)
        np.testing.assert_allclose(kernel(sys.expand(), 9), kernel(sys, 9), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, sys in INVARIANT.items() if isinstance(sys, RealDiagonalSSM)])
def test_a_real_system_answers_the_conjugate_at_the_conjugate(name):
    sys = INVARIANT[name]
    np.testing.assert_allclose(sys(np.conj(Z)), np.conj(sys(Z)), rtol=1e-13)
    plain = DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D)
    np.testing.assert_allclose(sys(Z), (plain(Z) + np.conj(plain(np.conj(Z)))) / 2, rtol=1e-12)


def test_infinite_at_a_pole_unless_the_mode_is_hidden():
    assert INTEGRATOR(1.0)[0, 0].real == np.inf
    response = frequency_response(INTEGRATOR, np.array([0.0, 0.5]))
    assert np.isinf(response[0, 0, 0])
    np.testing.assert_allclose(response[1, 0, 0], definition(INTEGRATOR, (), np.exp(0.5j))[0, 0], rtol=1e-14)
    hidden = DiagonalSSM(log_poles=INTEGRATOR.log_poles, B=np.array([[0.0], [1.0]]), C=np.ones((1, 2)), D=ONE)
    np.testing.assert_allclose(hidden(1.0), 1 / (1 - np.exp(-0.3)) + ONE, rtol=1e-14)
    canceling = DiagonalSSM(log_poles=np.zeros(2), B=np.ones((2, 1)), C=np.array([[1.0, -1.0]]), D=ONE)
    assert canceling(1.0) == 1.0
    real = RealDiagonalSSM(log_poles=np.zeros((2, 1)) + 0j, B=ONE + 0j, C=np.array([[[1.0]], [[1j]]]), D=ONE)
    assert np.isinf(real(1.0)[0, 0, 0])
    assert not np.isnan(real(1.0)[0, 0, 0])
    assert np.isinf(in_torch(INTEGRATOR)(1.0).numpy()[0, 0])


@pytest.mark.parametrize("library", [lambda sys: sys, in_torch], ids=["numpy", "torch"])
def test_an_eigenvalue_of_a_dense_system_is_no_question(library):
    sys = library(StateSpace(A=np.array([[0.5, 1.0], [0.0, 0.25]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=ONE))
    with pytest.raises(
        ValueError, match="the transfer function has no value at an eigenvalue of A, and a given point is one; move or drop it"
    ):
        sys(0.5)


def test_other_failures_of_the_solver_keep_their_words(monkeypatch):
    def out_of_memory(*_):
        raise RuntimeError("out of memory")

    sys = in_torch(INVARIANT["dense_siso"])
    monkeypatch.setattr(sys.xp.linalg, "solve", out_of_memory)
    with pytest.raises(RuntimeError, match=r"^out of memory$"):
        sys(0.5)


# frequency response


@pytest.mark.parametrize("name", INVARIANT)
def test_frequency_response_is_the_transfer_function_on_the_circle(name):
    """omega in rad per unit of time: dt enters, both signs are asked."""
    sys = INVARIANT[name]
    omega = np.array([-2.5, -0.3, 0.1, 1.1, 3.0])
    np.testing.assert_allclose(frequency_response(sys, omega), sys(np.exp(1j * omega * sys.dt)), rtol=1e-12)


def test_half_a_period_halves_the_angle():
    sys = INVARIANT["complex_half_period"]
    np.testing.assert_allclose(frequency_response(sys, np.array([0.8]))[0], definition(sys, (), np.exp(0.4j)), rtol=1e-13)


@pytest.mark.parametrize("name", ["complex_mimo", "realpart_batch", "dense_batch"])
def test_frequency_response_is_the_transform_of_the_kernel(name):
    """sum_k K[k] e^{-i omega k}, over as many steps as the slowest mode needs to fall below rounding."""
    sys, omega = INVARIANT[name], np.array([-1.0, 0.2, 2.9])
    K = kernel(sys, 2000)
    want = np.einsum("...kpm,fk->...fpm", K, np.exp(-1j * np.outer(omega, np.arange(2000))))
    np.testing.assert_allclose(frequency_response(sys, omega), want, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["complex_mimo_batch", "realpart_mimo", "dense_mimo"])
def test_blocks_of_frequencies_join_to_the_whole(name, monkeypatch):
    sys, omega = INVARIANT[name], np.linspace(-3, 3, 17)
    whole = frequency_response(sys, omega)
    for block in (1, 5 * sys.nstates**2, 16 * sys.nstates):
        monkeypatch.setattr(ssm_analysis.systems.transfer, "BLOCK", block)
        np.testing.assert_allclose(frequency_response(sys, omega), whole, rtol=1e-13)


@pytest.mark.parametrize("name", ["complex_batch", "realpart_batch", "dense_batch"])
def test_empty_batches_and_no_frequencies(name):
    sys = INVARIANT[name]
    assert frequency_response(sys[:0], np.ones(3)).shape == (0, sys.batch_shape[1], 3, 1, 1)
    assert frequency_response(sys, np.ones(0)).shape == (*sys.batch_shape, 0, 1, 1)
    assert kernel(sys[:0], 5).shape == (0, sys.batch_shape[1], 5, 1, 1)


@pytest.mark.parametrize("name", ["complex_light_damping", "realpart_light_damping"])
def test_light_damping_against_forty_digits(name):
    """Relative to the gain: poles 1e-9 from the circle, asked where the rounding of e^mu does not yet show (and at a distance of 1e-3)."""
    sys = INVARIANT[name]
    omega = np.array([0.0, 0.301, 1.001, 2.5, -2.001])
    ours = frequency_response(sys, omega)[:, 0, 0]
    with mpmath.workdps(40):

        def mode(i, z):
            b, c, mu = (mpmath.mpc(complex(x)) for x in (sys.B[i, 0], sys.C[0, i], sys.log_poles[i]))
            return c * b / (z - mpmath.exp(mu))

        for k, w in enumerate(omega):
            z = mpmath.exp(mpmath.mpc(0, float(w)))
            G = mpmath.fsum(mode(i, z) for i in range(sys.nstates))
            if isinstance(sys, RealDiagonalSSM):
                G = (G + mpmath.conj(mpmath.fsum(mode(i, mpmath.conj(z)) for i in range(sys.nstates)))) / 2
            want = complex(G + mpmath.mpf(float(sys.D[0, 0])))
            np.testing.assert_allclose(ours[k], want, rtol=1e-12)


# Markov parameters


@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize("length", [*range(1, 20), 33, 64, 65])
def test_kernel_is_its_definition(name, length):
    sys = INVARIANT[name]
    K = kernel(sys, length)
    assert K.shape == (*sys.batch_shape, length, sys.noutputs, sys.ninputs)
    for index in [(0,) * len(sys.batch_shape), tuple(n - 1 for n in sys.batch_shape)]:
        A, B, C, D = matrices(sys, index)
        want, power = [D], B
        for _ in range(length - 1):
            want.append(C @ power)
            power = A @ power
        np.testing.assert_allclose(K[index], want, rtol=1e-10, atol=1e-12 * np.max(np.abs(want)))


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_longer_kernel_begins_with_the_shorter(one, other):
    sys = INVARIANT["complex_mimo"]
    short, long = sorted((one, other))
    np.testing.assert_allclose(kernel(sys, long)[:short], kernel(sys, short), rtol=1e-12, atol=1e-13)


def test_kernel_keeps_single_precision():
    """1e-5 of the largest entry, over 300 steps; and real stays real."""
    for name, dtype in [
        ("complex_mimo", np.complex64),
        ("realpart_mimo", np.float32),
        ("dense_mimo", np.float32),
        ("diagonal_real_mimo", np.float32),
    ]:
        sys = INVARIANT[name]
        K = kernel(sys.map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)), 300)
        assert K.dtype == dtype
        exact = kernel(sys, 300)
        np.testing.assert_allclose(K, exact, atol=1e-5 * np.max(np.abs(exact)), rtol=0)


@pytest.mark.parametrize("name", ["complex_siso", "realpart_mimo", "realpart_complex_C_only", "dense_mimo", "diagonal_real_siso"])
def test_mixed_precision_promotes_like_the_library(name):
    """D in half the precision of the rest: nothing becomes complex that was not."""
    sys = INVARIANT[name]
    mixed = type(sys)(
        **{f: getattr(sys, f) for f in sys.AXES} | {"D": sys.D.astype(np.complex64 if np.iscomplexobj(sys.D) else np.float32)}
    )
    for found in (kernel(mixed, 7), kernel(in_torch(mixed), 7).numpy()):
        assert found.dtype == kernel(sys, 7).dtype
        np.testing.assert_allclose(found, kernel(sys, 7), rtol=1e-6)


# torch


@pytest.mark.parametrize("name", INVARIANT)
def test_torch_equals_numpy(name):
    sys = INVARIANT[name]
    twin, omega = in_torch(sys), np.linspace(-3, 3, 5)
    for found, want in [
        (twin.poles(), sys.poles()),
        (twin(torch.tensor(Z)), sys(Z)),
        (frequency_response(twin, torch.tensor(omega)), frequency_response(sys, omega)),
        (kernel(twin, 9), kernel(sys, 9)),
    ]:
        assert isinstance(found, torch.Tensor)
        assert str(found.dtype).endswith(str(want.dtype))
        if name.startswith("dense") and found.ndim == len(sys.batch_shape) + 1:
            found, want = (np.sort_complex(np.round(np.asarray(x), 9) + 0.0) for x in (found, want))
        np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-11)


def fields_of(sys):
    return [torch.tensor(np.array(getattr(sys, name)), requires_grad=True) for name in sys.AXES]


@pytest.mark.parametrize(
    "name", ["complex_mimo", "diagonal_real_siso", "realpart_real_modes", "realpart_complex_C_only", "dense_mimo", "dense_complex"]
)
def test_gradients(name):
    kind = type(INVARIANT[name])
    omega = torch.tensor([-0.4, 1.3], dtype=torch.float64, requires_grad=True)

    def answers(omega, *x):
        sys = kind(**dict(zip(kind.AXES, x, strict=True)))
        return frequency_response(sys, omega), kernel(sys, 5), sys(1.5 + 0.2j)

    assert torch.autograd.gradcheck(answers, (omega, *fields_of(INVARIANT[name])))


def test_gradients_reach_a_point_z():
    sys = in_torch(INVARIANT["realpart_siso"])
    assert torch.autograd.gradcheck(sys, torch.tensor([1.5 + 0.2j, -1.0], dtype=torch.complex128, requires_grad=True))


# precision and refusals


def test_answers_are_in_64_bits_whatever_came():
    sys = INVARIANT["complex_siso"].map(lambda x: x.astype(np.complex64))
    lifted = sys.map(lambda x: x.astype(np.complex128))
    np.testing.assert_array_equal(frequency_response(sys, np.ones(2, np.float32)), frequency_response(lifted, np.ones(2)))
    np.testing.assert_array_equal(sys(np.complex64(2.0)), lifted(2.0))
    assert frequency_response(in_torch(sys), torch.ones(2)).dtype == torch.complex128


@pytest.mark.usefixtures("unchecked_annotations")
class TestRefusals:
    @pytest.mark.parametrize("omega", [np.ones((2, 1)), np.ones(()), np.ones(2) * 1j, [1.0], 1.0])
    def test_omega(self, omega):
        got = rf"{omega.dtype} of shape \(.*\)" if isinstance(omega, np.ndarray) else type(omega).__name__
        with pytest.raises(ValueError, match=rf"omega must be a real array of shape \(f,\), got {got}$"):
            frequency_response(INTEGRATOR, omega)

    def test_other_library(self):
        with pytest.raises(
            TypeError, match=r"omega must be an array of the library of the system, got .*Tensor.* for a system of .*ndarray"
        ):
            frequency_response(INTEGRATOR, torch.ones(2))
        with pytest.raises(TypeError, match=r"z must be an array of the library of the system, got .*ndarray.* for a system of .*Tensor"):
            in_torch(INTEGRATOR)(np.ones(2))
        with pytest.raises(TypeError, match="z must be a number or an array of the library of the system, got list"):
            INTEGRATOR([1.0, 2.0])

    @pytest.mark.parametrize("f", [lambda sys: frequency_response(sys, np.ones(2)), lambda sys: transfer_function(sys, 1.0)])
    def test_kinds(self, f):
        with pytest.raises(TypeError, match=r"takes one of DiagonalSSM, RealDiagonalSSM, StateSpace, got DiagonalLTV; .* pass sys\.frozen"):
            f(TIME_VARYING["ltv_real"])
        with pytest.raises(TypeError, match=r"^(frequency_response|transfer_function) takes one of DiagonalSSM.*, got int$"):
            f(3)

    def test_kernel(self):
        with pytest.raises(ValueError, match="length must be at least 1, got 0"):
            kernel(INTEGRATOR, 0)
        with pytest.raises(TypeError, match="no kernel for DiagonalLTV"):
            kernel(TIME_VARYING["ltv_real"], 3)


def test_many_states_and_frequencies_stay_within_a_block():
    """More frequencies than a block holds, on random poles against the definition at a few of them."""
    sys = DiagonalSSM(**random_fields(82, 64, 1, 1, batch=(8,)))
    omega = np.linspace(-3, 3, 2000)
    assert ssm_analysis.systems.transfer.BLOCK // (64 * 8) < 2000
    response = frequency_response(sys, omega)
    for i in (0, 511, 512, 1024, 1999):
        np.testing.assert_allclose(response[5, i], definition(sys, (5,), np.exp(1j * omega[i])), rtol=1e-11, atol=1e-11)
