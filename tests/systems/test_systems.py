"""Containers: index convention, indexing, broadcasting, what they refuse and in which words."""

import copy
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace, simulate
from ssm_analysis.systems.base import in_double
from ssm_analysis.systems.dense import transform
from tests.support.systems_table import INVARIANT, LENGTH, TIME_VARYING, in_torch, loop, loop_after_update, matrices, random_fields

ALL = INVARIANT | TIME_VARYING
DIAGONAL = [name for name, sys in INVARIANT.items() if not isinstance(sys, StateSpace)]
REALPART = [name for name, sys in INVARIANT.items() if isinstance(sys, RealDiagonalSSM)]
ONE = np.ones((1, 1))


def one_pole(**changes):
    return {"log_poles": np.array([-0.5]), "B": ONE, "C": ONE, "D": ONE} | changes


# index convention


def letters(kind, *, n=3, m=2, p=2, seed=70):
    """Letters of a recurrence that is read out after the update, and the same as plain matrices."""
    f = random_fields(seed, n, m, p, complex_=kind is not StateSpace)
    A = np.diag(np.exp(f["log_poles"]))
    if kind is StateSpace:
        A = A + np.diag(np.ones(n - 1), 1)
        f = {"A": A} | {name: f[name] for name in "BCD"}
    if kind is RealDiagonalSSM:
        f["D"] = f["D"].real
    return f, (A, f["B"], f["C"], f["D"])


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM, StateSpace])
def test_from_recurrence_is_the_loop_that_reads_out_after_the_update(kind, rng):
    fields, (A, B, C, D) = letters(kind)
    u = rng.normal(size=(9, 2))
    want = loop_after_update(A, B, C, 0 * D, u)
    want = (want.real if kind is RealDiagonalSSM else want) + u @ D.T
    np.testing.assert_allclose(simulate(kind.from_recurrence(**fields), u), want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM, StateSpace])
def test_letters_taken_over_unchanged_are_another_system(kind, rng):
    fields, _ = letters(kind)
    u = rng.normal(size=(9, 2))
    difference = simulate(kind(**fields), u) - simulate(kind.from_recurrence(**fields), u)
    assert np.max(np.abs(difference)) > 0.5


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM, StateSpace])
def test_from_recurrence_broadcasts_and_keeps_dt(kind):
    fields, _ = letters(kind)
    batched = kind.from_recurrence(**(fields | {"B": np.stack([fields["B"], 2 * fields["B"]])}), dt=0.25)
    assert batched.batch_shape == (2,)
    assert batched.dt == 0.25
    single = kind.from_recurrence(**fields, dt=0.25)
    for name in kind.AXES:
        np.testing.assert_allclose(getattr(batched[0], name), getattr(single, name), rtol=1e-15)


@pytest.mark.parametrize("name", TIME_VARYING)
def test_time_varying_system_is_its_loop(name, rng):
    sys = TIME_VARYING[name]
    u = rng.normal(size=(LENGTH, *sys.batch_shape, sys.ninputs))
    y = simulate(sys, u)
    assert y.shape == (LENGTH, *sys.batch_shape, sys.noutputs)
    step = loop_after_update if isinstance(sys, DiagonalRecurrence) else loop
    for index in np.ndindex(sys.batch_shape):
        at = (slice(None), *index)
        A = np.exp(sys.log_poles[at])[:, :, None] * np.eye(sys.nstates)
        np.testing.assert_allclose(y[at], step(A, sys.B[at], sys.C[at], sys.D[at], u[at]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", [name for name in TIME_VARYING if name.startswith("recurrence")])
def test_recurrence_and_its_system_are_one_map(name, rng):
    sys = TIME_VARYING[name]
    u = rng.normal(size=(LENGTH, *sys.batch_shape, sys.ninputs))
    assert isinstance(sys.system(), DiagonalLTV)
    assert replace(sys, dt=0.5).system().dt == 0.5
    np.testing.assert_allclose(simulate(sys.system(), u), simulate(sys, u), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo", "complex_batch", "diagonal_real_siso"])
def test_ltv_system_that_does_not_change_is_the_invariant_one(name, rng):
    sys = INVARIANT[name]
    u = rng.normal(size=(LENGTH, *sys.batch_shape, sys.ninputs))
    ltv = DiagonalLTV(**{field: np.broadcast_to(getattr(sys, field), (LENGTH, *getattr(sys, field).shape)) for field in sys.AXES})
    np.testing.assert_allclose(simulate(ltv, u), simulate(sys, u), rtol=1e-12, atol=1e-12)


def test_frozen_is_the_system_of_one_moment():
    sys = TIME_VARYING["ltv_batch"]
    for t in (0, 4, LENGTH - 1, -1):
        frozen = replace(sys, dt=0.5).frozen(t)
        assert isinstance(frozen, DiagonalSSM)
        assert frozen.dt == 0.5
        assert frozen.batch_shape == sys.batch_shape
        for name in sys.AXES:
            np.testing.assert_array_equal(getattr(frozen, name), getattr(sys, name)[t])
    for t in (LENGTH, -LENGTH - 1):
        with pytest.raises(IndexError, match=rf"at must be a step of 0..{LENGTH - 1}, got {t}"):
            sys.frozen(t)


# poles and other forms of the same system


@pytest.mark.parametrize("name", DIAGONAL)
def test_poles_are_exponentials(name):
    sys = INVARIANT[name]
    np.testing.assert_allclose(sys.poles(), np.exp(sys.log_poles), rtol=1e-15)


def test_poles_of_time_varying_systems_have_time_first():
    sys = TIME_VARYING["ltv_batch"]
    assert sys.poles().shape == (LENGTH, 2, 3, 2)
    np.testing.assert_allclose(sys.poles()[3], sys.frozen(3).poles(), rtol=1e-15)
    assert TIME_VARYING["recurrence_mimo"].poles().shape == (LENGTH, 3)
    assert sys.length == LENGTH


@pytest.mark.parametrize("name", REALPART)
def test_expand_lists_each_mode_with_its_conjugate(name):
    sys = INVARIANT[name]
    whole = sys.expand()
    for index in np.ndindex(sys.batch_shape):
        A, B, C, D = matrices(sys, index)
        kernel = [C @ np.linalg.matrix_power(A, k) @ B for k in range(8)]
        E = matrices(whole, index)
        np.testing.assert_allclose([E[2] @ np.linalg.matrix_power(E[0], k) @ E[1] for k in range(8)], kernel, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(np.imag(kernel), 0, atol=1e-13)
        np.testing.assert_array_equal(E[3], D)


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("realpart_siso", 8),
        ("realpart_real_modes", 7),  # 3 real, 2 pairs
        ("realpart_real_modes_batch", 6),
        ("realpart_real_modes_one_input", 6),
        ("realpart_real_modes_one_output", 6),
        ("realpart_real_modes_mimo", 5),  # B of the second real mode is complex: its residue has rank two
        ("realpart_all_real", 3),
        ("realpart_complex_C_only", 3),
        ("realpart_one_state", 2),
    ],
)
def test_real_modes_stay_single(name, states):
    sys = INVARIANT[name]
    assert sys.expand().nstates == sys.to_dense().nstates == states
    for index in np.ndindex(sys.batch_shape):
        dense = matrices(sys.to_dense(), index)
        assert (
            np.linalg.matrix_rank(np.concatenate([np.linalg.matrix_power(dense[0], k) @ dense[1] for k in range(states)], axis=1)) == states
        )


def test_real_mode_of_rank_one_in_every_system_of_a_batch_is_single():
    """B is real in one system of the batch, C in the other."""
    rng = np.random.default_rng(71)
    B, C = (rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape)) for shape in ((1, 2), (2, 1)))
    B[0], C[1] = B[0].real, C[1].real
    sys = RealDiagonalSSM(log_poles=np.full((2, 1), -0.1 + 1j * np.pi), B=B, C=C, D=np.zeros((2, 2)))
    assert sys.expand().nstates == 1
    np.testing.assert_allclose(sys.expand()(2.0), sys(2.0), rtol=1e-14)


def test_a_mode_that_is_real_in_half_of_the_batch_stays_a_pair():
    sys = RealDiagonalSSM(log_poles=np.array([[-0.1 + 0j], [-0.1 + 1j]]), B=1j * ONE, C=(1 + 1j) * ONE, D=ONE)
    assert sys.expand().nstates == sys.to_dense().nstates == 2
    np.testing.assert_allclose(sys.expand()(2.0), sys(2.0), rtol=1e-14)
    np.testing.assert_allclose(sys.to_dense()(2.0), sys(2.0), rtol=1e-14)


@pytest.mark.parametrize("name", REALPART)
def test_to_dense_of_a_real_part_is_real(name):
    dense = INVARIANT[name].to_dense()
    assert all(getattr(dense, field).dtype == np.float64 for field in dense.AXES)


@pytest.mark.parametrize("name", INVARIANT)
def test_to_dense_has_the_same_poles_and_dt(name):
    sys = INVARIANT[name]
    whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    want = np.sort_complex(np.round(whole.poles(), 9) + 0.0)
    np.testing.assert_allclose(np.sort_complex(np.round(sys.to_dense().poles(), 9) + 0.0), want, atol=1e-8 if "repeated" in name else 2e-9)
    assert sys.to_dense().dt == whole.dt == sys.dt


def test_transform_changes_the_state_only(rng):
    sys, T = INVARIANT["dense_mimo"], rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    moved = transform(sys, T, np.linalg.inv(T))
    np.testing.assert_allclose(moved(1.5j), sys(1.5j), rtol=1e-11)
    np.testing.assert_allclose(moved.A @ T, T @ sys.A, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_map_in_double_and_torch_round_trip(name):
    sys = ALL[name]
    back = in_torch(sys).map(lambda x: x.numpy())
    for field in sys.AXES:
        np.testing.assert_array_equal(getattr(back, field), getattr(sys, field))
        assert getattr(in_double(sys), field).dtype == getattr(sys, field).dtype
    assert back.dt == sys.dt


@pytest.mark.parametrize("name", ["realpart_siso", "diagonal_real_mimo", "dense_siso", "ltv_complex"])
def test_containers_keep_the_dtype_and_double_lifts_exactly(name):
    sys = ALL[name].map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    for field in sys.AXES:
        x = getattr(sys, field)
        assert x.dtype in (np.float32, np.complex64)
        assert getattr(in_double(sys), field).dtype in (np.float64, np.complex128)
        np.testing.assert_array_equal(getattr(in_double(sys), field), x)


# frozen


@pytest.mark.parametrize("name", ALL)
def test_fields_are_read_only(name):
    sys = ALL[name]
    for field in (*sys.AXES, "dt"):
        with pytest.raises(FrozenInstanceError):
            setattr(sys, field, getattr(sys, field))
    for field in sys.AXES:
        with pytest.raises(ValueError, match="read-only"):
            getattr(sys, field)[...] = 0


def test_the_callers_arrays_stay_writeable():
    B = np.ones((1, 1))
    DiagonalSSM(**one_pole(B=B))
    B[0, 0] = 2.0
    assert B[0, 0] == 2.0


def test_systems_compare_and_hash_by_identity():
    sys = DiagonalSSM(**one_pole())
    twin = copy.copy(sys)
    assert sys == sys
    assert sys != twin
    assert len({sys, twin}) == 2


def test_repr_says_what_and_how_large():
    assert repr(INVARIANT["complex_mimo_batch"]) == (
        "DiagonalSSM(batch_shape=(3,), nstates=3, ninputs=2, noutputs=2, dt=1, log_poles:complex128 B:complex128 C:complex128 D:complex128)"
    )
    assert repr(in_torch(TIME_VARYING["ltv_real"])) == (
        "DiagonalLTV(length=11, batch_shape=(), nstates=3, ninputs=1, noutputs=1, dt=1, log_poles:float64 B:float64 C:float64 D:float64)"
    )


def test_numpy_periods_become_plain_numbers():
    assert type(DiagonalSSM(**one_pole(dt=np.float64(0.5))).dt) is float


# gradients


def flat_tensors(sys):
    """The fields as tensors that want gradients, and how to build the system from them."""
    return [torch.tensor(np.array(getattr(sys, name)), requires_grad=True) for name in sys.AXES]


@pytest.mark.parametrize("name", ["complex_siso", "realpart_mimo", "dense_normal", "ltv_complex", "recurrence_real"])
def test_gradients_pass_through_poles(name):
    kind = type(ALL[name])
    assert torch.autograd.gradcheck(lambda *x: kind(**dict(zip(kind.AXES, x, strict=True))).poles(), flat_tensors(ALL[name]))


@pytest.mark.parametrize("name", ["complex_mimo", "realpart_mimo", "dense_mimo"])
def test_gradients_pass_through_from_recurrence(name):
    kind = type(ALL[name])

    def fields(*x):
        sys = kind.from_recurrence(**dict(zip(kind.AXES, x, strict=True)))
        return tuple(getattr(sys, field) for field in kind.AXES)

    assert torch.autograd.gradcheck(fields, flat_tensors(ALL[name]))


@pytest.mark.parametrize("name", [name for name in REALPART if "batch" not in name])
@pytest.mark.parametrize("form", ["expand", "to_dense"])
def test_gradients_pass_through_expand_and_to_dense(name, form):
    """Of the gain, whose gradient must be that of the system itself: B of a real mode may even be 0."""

    def gain(sys):
        return torch.view_as_real(sys(1.3 - 0.2j))

    x, y = flat_tensors(INVARIANT[name]), flat_tensors(INVARIANT[name])
    kind = RealDiagonalSSM
    build = lambda fields: kind(**dict(zip(kind.AXES, fields, strict=True)))  # noqa: E731
    weights = torch.tensor([1.0, -0.7], dtype=torch.float64)
    want = torch.autograd.grad((gain(build(x)) * weights).sum(), x)
    got = torch.autograd.grad((gain(getattr(build(y), form)()) * weights).sum(), y)
    # a real mode needs a second state as soon as it leaves the real axis, or its residue rank one: nothing follows it there,
    # nor the phase that a factor 0 takes when it leaves 0
    real_modes = np.isin(np.abs(np.imag(INVARIANT[name].log_poles)), [0, np.pi])
    unfollowed = {"log_poles": real_modes}
    if name == "realpart_real_modes_mimo":
        unfollowed["B"] = np.array([[True], [False], [False]])
    for zero, other in [("realpart_real_modes_zero_input", "B"), ("realpart_real_modes_no_output", "C")]:
        if name == zero:
            unfollowed[other] = real_modes[:, None] if other == "B" else real_modes
    for field, g, w in zip(kind.AXES, got, want, strict=True):
        g, w = g.numpy(), w.numpy()
        if field in unfollowed:
            g, w = (np.where(unfollowed[field], np.real(x), x) for x in (g, w))
        np.testing.assert_allclose(g, w, rtol=1e-10, atol=1e-12)
