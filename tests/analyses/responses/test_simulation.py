"""simulate: every container is its explicit loop, whichever way time is run through."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import ssm_analysis.analyses.responses.simulation
from ssm_analysis import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace, simulate
from ssm_analysis.analyses.responses.simulation import convolve, linear_recurrence
from tests.support.systems_table import INVARIANT, LENGTH, STABLE, TIME_VARYING, in_torch, loop, loop_after_update, matrices, random_fields

ALL = INVARIANT | TIME_VARYING
ONE = np.ones((1, 1))


def input_for(sys, length, seed=90, *, batch=None, complex_=None):
    """Complex where the system takes it."""
    rng = np.random.default_rng(seed)
    shape = (length, *(sys.batch_shape if batch is None else batch), sys.ninputs)
    complex_ = not isinstance(sys, RealDiagonalSSM) if complex_ is None else complex_
    return rng.normal(size=shape) + (1j * rng.normal(size=shape) if complex_ else 0)


def assert_close_at_every_time(found, want, *, digits):
    """Each time step to its own size so far: early outputs may not drown in the rounding of late ones."""
    found, want = np.asarray(found), np.asarray(want)
    size = np.maximum.accumulate(np.max(np.abs(want), axis=tuple(range(1, want.ndim))))
    error = np.max(np.abs(found - want), axis=tuple(range(1, want.ndim)))
    np.testing.assert_array_less(error, 10.0**-digits * np.maximum(size, 1e-300))


# the loop


@pytest.mark.parametrize("name", INVARIANT)
@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 17, 40])
def test_invariant_systems_are_their_loops(name, length):
    sys = INVARIANT[name]
    u = input_for(sys, length)
    y = simulate(sys, u)
    assert y.shape == (length, *sys.batch_shape, sys.noutputs)
    assert np.iscomplexobj(y) == (not isinstance(sys, RealDiagonalSSM))
    for index in np.ndindex(sys.batch_shape):
        at = (slice(None), *index)
        np.testing.assert_allclose(y[at], loop(*matrices(sys, index), u[at]), rtol=1e-10, atol=1e-12 * np.max(np.abs(y)))


@pytest.mark.parametrize("name", INVARIANT)
def test_real_input_to_a_real_system_gives_real_output(name):
    sys = INVARIANT[name]
    if not any(np.iscomplexobj(getattr(sys, field)) for field in sys.AXES) or isinstance(sys, RealDiagonalSSM):
        assert simulate(sys, input_for(sys, 6, complex_=False)).dtype == np.float64


@pytest.mark.parametrize("name", STABLE)
def test_forms_of_one_system_have_one_response(name):
    sys = STABLE[name]
    u = input_for(sys, 50, complex_=False)
    want = simulate(sys, u)
    np.testing.assert_allclose(simulate(sys.to_dense(), u), want, rtol=1e-11, atol=1e-12 * np.max(np.abs(want)))
    if isinstance(sys, RealDiagonalSSM):
        np.testing.assert_allclose(simulate(sys.expand(), u), want, rtol=1e-11, atol=1e-12 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", ALL)
def test_linear(name):
    sys = ALL[name]
    u, v = (input_for(sys, LENGTH, seed) for seed in (91, 92))
    want = 2 * simulate(sys, u) - 3 * simulate(sys, v)
    np.testing.assert_allclose(simulate(sys, 2 * u - 3 * v), want, rtol=1e-11, atol=1e-11 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", ALL)
def test_causal(name):
    """What enters later changes nothing before; FFTs to rounding."""
    sys = ALL[name]
    u = input_for(sys, LENGTH)
    changed = np.concatenate([u[:6], 5 * u[6:]])
    y, z = simulate(sys, u), simulate(sys, changed)
    np.testing.assert_allclose(z[:6], y[:6], rtol=1e-10, atol=1e-12 * np.max(np.abs(z)))
    assert np.max(np.abs(z[6:] - y[6:])) > 1e-3


@pytest.mark.parametrize("name", INVARIANT)
def test_invariant_in_time(name):
    sys = INVARIANT[name]
    u = input_for(sys, 8)
    late = simulate(sys, np.concatenate([np.zeros_like(u[:3]), u]))
    np.testing.assert_allclose(late[:3], 0, atol=1e-12 * np.max(np.abs(late)))
    np.testing.assert_allclose(late[3:], simulate(sys, u), rtol=1e-10, atol=1e-12 * np.max(np.abs(late)))


# ways through time


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "complex_batch", "realpart_siso", "realpart_mimo", "diagonal_real_mimo"])
@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_convolution_and_scan_agree(name, length, monkeypatch):
    sys = INVARIANT[name]
    u = input_for(sys, length)
    by_scan = ssm_analysis.analyses.responses.simulation._scanned(sys, np.moveaxis(u, 0, -2))
    monkeypatch.setattr(ssm_analysis.analyses.responses.simulation, "linear_recurrence", None)  # nothing decaying is scanned
    np.testing.assert_allclose(simulate(sys, u), np.moveaxis(by_scan, -2, 0), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("length", range(1, 21))
@pytest.mark.parametrize("wide", [0, 10**9], ids=["steps", "chunks"])
@pytest.mark.parametrize("name", ["ltv_mimo", "recurrence_real"])
def test_steps_and_chunks_of_every_length(name, length, wide, monkeypatch):
    monkeypatch.setattr(ssm_analysis.analyses.responses.simulation, "WIDE", wide)
    kind = type(TIME_VARYING[name])
    step = loop_after_update if kind is DiagonalRecurrence else loop
    sys = kind(**random_fields(93, 3, 2, 2, batch=(length,), complex_=name == "ltv_mimo"))
    u = input_for(sys, length)
    A = np.exp(sys.log_poles)[:, :, None] * np.eye(3)
    np.testing.assert_allclose(simulate(sys, u), step(A, sys.B, sys.C, sys.D, u), rtol=1e-12, atol=1e-13)


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(-1.5, 1.5)),
    st.booleans(),
)
def test_linear_recurrence_is_its_definition(a, complex_):
    a = a * np.exp(0.5j) if complex_ else a
    v = np.random.default_rng(94).normal(size=a.shape)
    x, states = 0, []
    for a_k, v_k in zip(a, v, strict=True):
        x = a_k * x + v_k
        states.append(x)
    np.testing.assert_allclose(linear_recurrence(a, v), states, rtol=1e-10, atol=1e-10 * np.max(np.abs(states)))


@pytest.mark.parametrize("name", ["realpart_growing", "complex_growing", "complex_one_of_batch_growing", "realpart_mimo_growing"])
def test_growing_diagonal_kernels_keep_their_early_outputs(name):
    """Poles up to 1.8 over 200 steps: by FFT the first outputs would be noise of size 1e30."""
    sys = INVARIANT[name]
    u = input_for(sys, 200)
    y = simulate(sys, u)
    for index in np.ndindex(sys.batch_shape):
        at = (slice(None), *index)
        assert_close_at_every_time(y[at], loop(*matrices(sys, index), u[at]), digits=11)


@pytest.mark.parametrize("kind", ["growing", "transient", "late", "batch"])
def test_growing_dense_kernels_keep_their_early_outputs(kind):
    """An unstable A; a stable one that first grows by 1e11; a delay; and one system that grows beside a larger one that does not."""
    stable = np.array([[0.5]])
    A, B, C = {
        "growing": (np.array([[1.2]]), ONE, ONE),
        "transient": (0.99 * np.eye(6) + np.eye(6, k=1), np.eye(6)[:, 5:] + np.eye(6)[:, :1], np.ones((1, 6))),
        "late": (np.eye(40, k=-1), np.eye(40)[:, :1], 1e9 * np.eye(40)[39:]),
        "batch": (np.stack([stable, np.array([[1.2]])]), ONE, np.stack([1e20 * ONE, 1e-9 * ONE])),
    }[kind]
    sys = StateSpace(A=A, B=B, C=C, D=1e-3 * ONE)
    u = input_for(sys, 150)
    y = simulate(sys, u)
    for index in np.ndindex(sys.batch_shape):
        at = (slice(None), *index)
        assert_close_at_every_time(y[at], loop(*matrices(sys, index), u[at]), digits=11)


def test_outputs_before_an_overflow_are_right():
    """On torch, which does not warn: a kernel of 0, 1, 1e200, inf, ..."""
    sys = in_torch(StateSpace(A=np.array([[1e200]]), B=ONE, C=ONE, D=0 * ONE))
    np.testing.assert_allclose(simulate(sys, torch.ones(40, 1, dtype=torch.float64))[:3, 0], [0, 1, 1e200], rtol=1e-15)


@pytest.mark.parametrize("name", ["dense_siso", "dense_normal", "dense_complex", "dense_batch"])
def test_dense_by_kernel_and_by_steps_agree(name, monkeypatch):
    sys = INVARIANT[name]
    u = input_for(sys, 60)
    by_kernel = simulate(sys, u)
    monkeypatch.setattr(ssm_analysis.analyses.responses.simulation, "convolve", None)
    with pytest.raises(TypeError):
        simulate(sys, u)
    monkeypatch.setattr(ssm_analysis.analyses.responses.simulation, "_grows", lambda _: True)
    np.testing.assert_allclose(by_kernel, simulate(sys, u), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("complex_kernel", [False, True])
@pytest.mark.parametrize("complex_input", [False, True])
def test_convolve_is_numpys(complex_kernel, complex_input, rng):
    k, u = (rng.normal(size=(2, 9, 1)) + (1j * rng.normal(size=(2, 9, 1)) if c else 0) for c in (complex_kernel, complex_input))
    found = convolve(k, u)
    assert np.iscomplexobj(found) == (complex_kernel or complex_input)
    for b in range(2):
        np.testing.assert_allclose(found[b, :, 0], np.convolve(k[b, :, 0], u[b, :, 0])[:9], rtol=1e-12, atol=1e-13)


# batch axes of the input


@pytest.mark.parametrize(
    "name", ["complex_batch", "complex_mimo_batch", "realpart_batch", "realpart_mimo_batch", "dense_batch", "ltv_batch", "recurrence_batch"]
)
def test_documents_run_side_by_side(name):
    sys = ALL[name]
    u = input_for(sys, LENGTH, batch=(4, *sys.batch_shape))
    y = simulate(sys, u)
    assert y.shape == (LENGTH, 4, *sys.batch_shape, sys.noutputs)
    for document in range(4):
        np.testing.assert_allclose(y[:, document], simulate(sys, u[:, document]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["complex_batch", "realpart_batch", "dense_batch", "ltv_batch", "recurrence_batch"])
@pytest.mark.parametrize("batch", [(), (1,), (-1,), (1, 1)])
def test_one_input_drives_the_whole_batch(name, batch):
    """Also where the number of channels is the number of time steps."""
    sys = ALL[name]
    batch = tuple(sys.batch_shape[-1] if n == -1 else n for n in batch)
    u = input_for(sys, LENGTH, batch=batch)
    want = simulate(sys, np.broadcast_to(u[(slice(None), *(None,) * (2 - len(batch)))], (LENGTH, *sys.batch_shape, 1)))
    np.testing.assert_allclose(simulate(sys, u), want, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", [DiagonalLTV, DiagonalRecurrence])
def test_time_is_never_taken_for_a_batch_axis(kind):
    """As many steps as channels and as documents."""
    sys = kind(**random_fields(95, 2, 1, 1, batch=(3, 3)))
    single = input_for(sys, 3, batch=())
    for channel in range(3):
        member = simulate(sys[channel], single)
        np.testing.assert_allclose(simulate(sys, single)[:, channel], member, rtol=1e-13)
        np.testing.assert_allclose(simulate(sys, single[:, None, None])[:, 0, channel], member, rtol=1e-13)


@pytest.mark.parametrize("name", ["complex_mimo_batch", "realpart_batch", "dense_batch", "ltv_batch", "recurrence_batch"])
def test_empty_batches(name):
    sys = ALL[name][:0]
    assert simulate(sys, np.ones((LENGTH, *sys.batch_shape, sys.ninputs))).shape == (LENGTH, *sys.batch_shape, sys.noutputs)


# dtypes and libraries


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_single_precision_stays_and_is_close(name, library):
    """To 1e-5 of the largest output."""
    sys = ALL[name]
    u = input_for(sys, LENGTH)
    want = simulate(sys, u)
    narrow = sys.map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    u32 = u.astype(np.complex64 if np.iscomplexobj(u) else np.float32)
    y = simulate(narrow, u32) if library == "numpy" else simulate(in_torch(narrow), torch.tensor(u32)).numpy()
    assert y.dtype == (np.complex64 if np.iscomplexobj(want) else np.float32)
    np.testing.assert_allclose(y, want, rtol=0, atol=1e-5 * np.max(np.abs(want)))


@pytest.mark.parametrize(
    "name", ["complex_siso", "complex_mimo", "realpart_siso", "realpart_mimo", "dense_siso", "dense_mimo", "ltv_mimo", "recurrence_real"]
)
@pytest.mark.parametrize("narrow", ["system", "input"])
def test_mixed_precisions_promote_alike_in_both_libraries(name, narrow):
    def single(x):
        return x.astype(np.complex64 if np.iscomplexobj(x) else np.float32)

    sys, u = ALL[name], input_for(ALL[name], LENGTH)
    sys, u = (sys.map(single), u) if narrow == "system" else (sys, single(u))
    want = simulate(sys, u)
    found = simulate(in_torch(sys), torch.tensor(u))
    assert str(found.dtype).endswith(str(want.dtype))
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("length", [LENGTH, 1])
def test_torch_equals_numpy(name, length):
    sys = ALL[name]
    if length == 1 and name in TIME_VARYING:
        sys = sys.map(lambda x: x[:1])
    u = input_for(sys, length)
    y = simulate(in_torch(sys), torch.tensor(u))
    assert isinstance(y, torch.Tensor)
    np.testing.assert_allclose(y, simulate(sys, u), rtol=1e-11, atol=1e-12)


# gradients


@pytest.mark.parametrize(
    "name",
    [
        "complex_siso",
        "complex_mimo",
        "diagonal_real_siso",
        "realpart_siso",
        "realpart_mimo",
        "realpart_complex_C_only",
        "complex_growing",
        "dense_siso",
        "dense_mimo",
        "dense_complex",
        "dense_growing",
        "ltv_complex",
        "ltv_real",
        "recurrence_complex",
        "recurrence_mimo",
    ],
)
def test_gradients_in_every_field_and_the_input(name):
    sys = ALL[name]
    kind, length = type(sys), 5
    sys = sys.map(lambda x: x[:length]) if name in TIME_VARYING else sys

    def response(u, *fields):
        return simulate(kind(**dict(zip(kind.AXES, fields, strict=True))), u)

    u = torch.tensor(input_for(sys, length), requires_grad=True)
    fields = [torch.tensor(np.array(getattr(sys, field)), requires_grad=True) for field in sys.AXES]
    assert torch.autograd.gradcheck(response, (u, *fields))


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "dense_siso"])
def test_gradients_pass_where_real_input_meets_complex_states(name):
    sys = in_torch(INVARIANT[name])
    u = torch.tensor(input_for(sys, 5, complex_=False), requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: simulate(sys, u), u)


# refusals


@pytest.mark.usefixtures("unchecked_annotations")
class TestRefusals:
    def test_systems(self):
        kinds = "DiagonalSSM, RealDiagonalSSM, StateSpace, DiagonalLTV, DiagonalRecurrence"
        with pytest.raises(TypeError, match=f"simulate takes one of {kinds}, got int$"):
            simulate(3, np.ones((5, 1)))

    @pytest.mark.parametrize("u", [[[1.0]], 1.0, None])
    def test_inputs_that_are_no_arrays(self, u):
        message = r"u must be an array of shape \(L, \*batch, 1\) with batch axes that broadcast against \(2, 3\), got " + type(u).__name__
        with pytest.raises(TypeError, match=message):
            simulate(INVARIANT["complex_batch"], u)

    def test_other_library(self):
        with pytest.raises(TypeError, match=r"u must be an array of the library of the system, got .*Tensor.* for a system of .*ndarray"):
            simulate(INVARIANT["complex_siso"], torch.ones(4, 1))

    def test_whole_numbers(self):
        with pytest.raises(TypeError, match="u must hold real or complex floating-point numbers, got int64"):
            simulate(INVARIANT["complex_siso"], np.ones((4, 1), dtype=int))

    @pytest.mark.parametrize("shape", [(5,), (5, 2), (0, 1), ()])
    def test_shapes(self, shape):
        got = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        message = (
            rf"u must have shape \(L, \*batch, 1\) with .* against \(2, 3\), got \({got}\); single-input systems take u\[\.\.\., None\]"
        )
        with pytest.raises(ValueError, match=message):
            simulate(INVARIANT["complex_batch"], np.ones(shape))

    @pytest.mark.parametrize("shape", [(5, 3), (5,), (0, 2)])
    def test_shapes_for_several_inputs(self, shape):
        with pytest.raises(
            ValueError, match=r"u must have shape \(L, \*batch, 2\) with batch axes that broadcast against \(\), got \([\d, ]+\)$"
        ):
            simulate(INVARIANT["complex_mimo"], np.ones(shape))

    def test_batches_that_do_not_broadcast(self):
        with pytest.raises(ValueError, match=r"u must have shape .* broadcast against \(2, 3\), got \(5, 4, 1\)$"):
            simulate(INVARIANT["complex_batch"], np.ones((5, 4, 1)))

    def test_complex_input_to_a_real_part(self):
        with pytest.raises(ValueError, match=r"u must be real for a RealDiagonalSSM, got complex128; sys\.expand\(\) takes complex input"):
            simulate(INVARIANT["realpart_siso"], np.ones((5, 1)) * 1j)
        assert simulate(INVARIANT["realpart_siso"].expand(), np.ones((5, 1)) * 1j).dtype == np.complex128

    @pytest.mark.parametrize("length", [LENGTH - 1, LENGTH + 1, 1])
    @pytest.mark.parametrize("name", ["ltv_real", "recurrence_real"])
    def test_lengths(self, name, length):
        with pytest.raises(ValueError, match=f"u must be as long as the time-varying system, {LENGTH} steps, got {length}$"):
            simulate(TIME_VARYING[name], np.ones((length, 1)))


def test_a_recurrence_does_not_wait_for_the_check_of_its_values():
    sys = DiagonalRecurrence(log_poles=np.full((3, 1), np.nan), B=ONE, C=ONE, D=ONE)
    assert np.all(np.isnan(simulate(sys, np.ones((3, 1)))[1:]))


def test_an_integrator_counts():
    sys = DiagonalSSM(log_poles=np.zeros(1), B=ONE, C=ONE, D=ONE)
    np.testing.assert_allclose(simulate(sys, np.ones((1000, 1)))[:, 0], np.arange(1, 1001), rtol=1e-12)
