"""Past and future of a time-varying system, against the blocks of its operator written out and its time-invariant counterparts."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, controllability_gramian, hsv, observability_gramian
from ssm_analysis.analyses.along.gramians import controllability_gramian_at, hsv_at, observability_gramian_at
from ssm_analysis.analyses.along.state_size import effective_state_size
from ssm_analysis.analyses.along.transitions import adjoint_system
from tests.support.ltv_table import LONGER, LTV, constant, entries, flat, operator, rescaled
from tests.support.systems_table import STABLE, in_torch, random_fields


def dense_values(sys, t, index):
    """Singular values of T[t:, :t], zeros up to n."""
    sigma = np.linalg.svd(flat(operator(sys, index)[t:, :t]), compute_uv=False)[: sys.nstates]
    return np.concatenate([sigma, np.zeros(sys.nstates - len(sigma))])


@pytest.mark.parametrize("name", LTV)
def test_gramians_follow_their_recursions(name):
    sys = LTV[name]
    A = np.exp(sys.log_poles)[..., None] * np.eye(sys.nstates)
    P, Q = ([f(sys, t) for t in range(sys.length + 1)] for f in (controllability_gramian_at, observability_gramian_at))
    np.testing.assert_array_equal(P[0], 0)
    np.testing.assert_array_equal(Q[-1], 0)
    for t in range(sys.length):
        H = np.conj(A[t].swapaxes(-1, -2))
        want = A[t] @ P[t] @ H + sys.B[t] @ np.conj(sys.B[t].swapaxes(-1, -2))
        np.testing.assert_allclose(P[t + 1], want, rtol=1e-11, atol=1e-11 * np.max(np.abs(want)))
        want = H @ Q[t + 1] @ A[t] + np.conj(sys.C[t].swapaxes(-1, -2)) @ sys.C[t]
        np.testing.assert_allclose(Q[t], want, rtol=1e-11, atol=1e-11 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", ["complex_siso", "complex_mimo_batch", "diagonal_real_mimo"])
def test_of_a_long_constant_system_they_are_the_gramians(name):
    sys = STABLE[name]
    varying = constant(sys, 1200)
    for found, want in (
        (controllability_gramian_at(varying, 1200), controllability_gramian(sys)),
        (observability_gramian_at(varying, 0), observability_gramian(sys)),
    ):
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-11 * np.max(np.abs(want)))
    want = hsv(sys)
    np.testing.assert_allclose(hsv_at(varying, (600,))[0], want, rtol=1e-7, atol=1e-12 * np.max(want))


@pytest.mark.parametrize("name", LONGER)
def test_values_are_those_of_the_blocks_of_the_operator(name):
    sys = LTV[name]
    at = [7, 1, sys.length - 1, 4, 7]  # in any order, some twice
    found = hsv_at(sys, at)
    assert found.shape == (5, *sys.batch_shape, sys.nstates)
    for index in entries(sys):
        for k, t in enumerate(at):
            want = dense_values(sys, t, index)
            np.testing.assert_allclose(found[(k, *index)], want, rtol=1e-9, atol=1e-13 * want[0])


@pytest.mark.parametrize("name", LONGER)
def test_values_are_the_roots_of_the_eigenvalues_of_the_product(name):
    sys = LTV[name]
    product = controllability_gramian_at(sys, 5) @ observability_gramian_at(sys, 5)
    want = np.sort(np.linalg.eigvals(product).real, axis=-1)[..., ::-1]
    np.testing.assert_allclose(hsv_at(sys, (5,))[0] ** 2, want, rtol=1e-6, atol=1e-10 * np.max(want))


@pytest.mark.parametrize("name", LONGER)
def test_laws(name):
    sys, at = LTV[name], (3, 8)
    want = hsv_at(sys, at)
    size = 1e-11 * np.max(want)
    np.testing.assert_allclose(hsv_at(rescaled(sys), at), want, rtol=1e-8, atol=size)  # other coordinates
    np.testing.assert_allclose(hsv_at(adjoint_system(sys), [sys.length - t for t in at]), want, rtol=1e-9, atol=size)
    found = hsv_at(in_torch(sys), at)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-9, atol=size)


def test_members_of_a_batch_are_alone():
    sys = LTV["ltv_batch"]
    for i in range(2):
        np.testing.assert_allclose(hsv_at(sys, (3, 8))[:, i], hsv_at(sys[i], (3, 8)), rtol=1e-12)
        np.testing.assert_allclose(controllability_gramian_at(sys, 3)[i], controllability_gramian_at(sys[i], 3), rtol=1e-13)


@pytest.mark.parametrize("complex_", [True, False])
def test_gradients(complex_):
    fields = {k: torch.tensor(x, requires_grad=True) for k, x in random_fields(7, 2, 1, 1, batch=(5,), complex_=complex_).items()}

    def check(f):
        assert torch.autograd.gradcheck(
            lambda *x: f(DiagonalLTV(**dict(zip(fields, x, strict=True)))), tuple(fields.values()), fast_mode=True
        )

    check(lambda sys: hsv_at(sys, (2, 3)))
    check(lambda sys: effective_state_size(sys, at=(2, 3)).entropy_rank)
    check(lambda sys: torch.view_as_real(controllability_gramian_at(sys, 4) + 0j))
    check(lambda sys: torch.view_as_real(observability_gramian_at(sys, 4) + 0j))


# effective state-size


def test_ranks_are_those_of_the_dense_blocks():
    for name in LONGER:
        sys = LTV[name]
        found = effective_state_size(sys, at=(2, 6), tolerance=0.05)
        for k, t in enumerate((2, 6)):
            for index in entries(sys):
                sigma = dense_values(sys, t, index)
                assert found.tolerance_rank[(k, *index)] == np.sum(sigma > 0.05 * sigma[0])
                p = sigma[sigma > 0] / np.sum(sigma)
                np.testing.assert_allclose(found.entropy_rank[(k, *index)], np.exp(-np.sum(p * np.log(p))), rtol=1e-8)
        np.testing.assert_array_equal(found.singular_values, hsv_at(sys, (2, 6)))


def test_states_that_are_never_read_do_not_count():
    f = random_fields(8, 4, 1, 1, batch=(20,))
    f["C"] = f["C"] * np.array([1, 0, 1, 0])
    assert np.all(effective_state_size(DiagonalLTV(**f), at=(10,), tolerance=1e-10).tolerance_rank == 2)


def test_equal_singular_values_are_counted_in_full():
    """A state that each holds one token for another output: the block is a permutation."""
    L, n = 8, 4
    B = np.concatenate([np.eye(n)[:, :, None], np.zeros((L - n, n, 1))])
    C = np.concatenate([np.zeros((n, 1, n)), np.eye(n)[:, None, :]])
    found = effective_state_size(DiagonalLTV(log_poles=np.zeros((L, n)), B=B, C=C, D=np.zeros((1, 1, 1))), at=(n,))
    np.testing.assert_allclose(found.entropy_rank, [n], rtol=1e-12)
    np.testing.assert_array_equal(found.tolerance_rank, [n])


def test_nothing_passes_where_nothing_enters():
    one = np.ones((5, 1, 1))
    found = effective_state_size(DiagonalLTV(log_poles=-one[..., 0], B=0 * one, C=one, D=one), at=(2,))
    assert found.tolerance_rank == found.entropy_rank == 0


def test_times_by_default():
    for length in (2, 3, 17, 100):
        one = np.ones((length, 1, 1))
        found = effective_state_size(DiagonalLTV(log_poles=-one[..., 0], B=one, C=one, D=one))
        assert len(found.at) == min(16, length - 1)
        assert found.at[0] >= 1
        assert found.at[-1] <= length - 1
        assert len(found.at) == len(set(found.at)) == len(found.tolerance_rank)


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    sys = LTV["ltv_real"]
    for at in ((), (0,), (11,), (1.0,), 3):
        for f in (hsv_at, lambda sys, at: effective_state_size(sys, at=at)):
            with pytest.raises(ValueError, match="at must hold times with a past and a future, integers from 1 to 10, got"):
                f(sys, at)
    for t in (-1, 12, 0.5, True):
        for f in (controllability_gramian_at, observability_gramian_at):
            with pytest.raises(ValueError, match="at must be an integer from 0 to 11, the number of tokens, got"):
                f(sys, t)
    for tolerance in (0, 1, float("nan")):
        with pytest.raises(ValueError, match="tolerance must lie between 0 and 1, both excluded, got"):
            effective_state_size(sys, tolerance=tolerance)
    for f in (controllability_gramian_at, observability_gramian_at, hsv_at):
        with pytest.raises(TypeError, match=f"{f.__name__} takes one of DiagonalLTV, got DiagonalSSM"):
            f(sys.frozen(0), 1)
    with pytest.raises(TypeError, match="effective_state_size takes one of DiagonalLTV"):
        effective_state_size(sys.frozen(0))
    with pytest.raises(ValueError, match=r"at must hold times with a past and a future, integers from 1 to 0, got \[\]"):
        effective_state_size(LTV["ltv_one_token"])
