"""The energy gain, against the singular values of the operator written out and the H-infinity norm."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ssm_analysis.analyses.along.gain
from ssm_analysis import DiagonalLTV, hinf_norm, simulate
from ssm_analysis.analyses.along.attention import hidden_attention
from ssm_analysis.analyses.along.gain import energy_gain
from ssm_analysis.analyses.along.transitions import adjoint_system
from tests.support.ltv_table import LTV, constant, entries, flat, operator, rescaled
from tests.support.systems_table import STABLE, in_torch, random_fields


@pytest.mark.parametrize("name", LTV)
def test_it_is_the_largest_singular_value(name):
    sys = LTV[name]
    found = energy_gain(sys, rtol=1e-8)
    assert np.all(found.residual <= 1e-8)
    for index in entries(sys):
        np.testing.assert_allclose(found.gain[index], np.linalg.norm(flat(operator(sys, index)), 2), rtol=1e-12)


@pytest.mark.parametrize("name", LTV)
def test_the_input_is_a_witness_and_the_residual_an_enclosure(name):
    sys = LTV[name]
    found = energy_gain(sys, rtol=1e-15, cycles=1)
    v = found.input
    np.testing.assert_allclose(np.sum(np.abs(v) ** 2, axis=(0, -1)), 1, rtol=1e-12)
    np.testing.assert_allclose(np.sqrt(np.sum(np.abs(simulate(sys, v)) ** 2, axis=(0, -1))), found.gain, rtol=1e-12)
    for index in entries(sys):
        sigma = np.linalg.svd(flat(operator(sys, index)), compute_uv=False)
        g = found.gain[index]
        assert g <= sigma[0] * (1 + 1e-13)
        assert np.min(np.abs(sigma**2 - g**2)) <= (found.residual[index] + 1e-13) * g**2


@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 4),
    m=st.integers(1, 3),
    p=st.integers(1, 3),
    length=st.integers(1, 8),
    complex_=st.booleans(),
)
def test_no_input_is_amplified_more(seed, n, m, p, length, complex_):
    sys = DiagonalLTV(**random_fields(seed, n, m, p, batch=(length,), complex_=complex_))
    u = np.random.default_rng(seed).normal(size=(length, m))
    found = energy_gain(sys, rtol=1e-6)
    assert np.linalg.norm(simulate(sys, u)) <= found.gain * np.linalg.norm(u) * (1 + 1e-6)
    np.testing.assert_allclose(found.gain, np.linalg.norm(flat(operator(sys)), 2), rtol=1e-5)


def test_cycles_go_on_where_one_does_not_do(monkeypatch):
    sys = LTV["ltv_batch"]
    monkeypatch.setattr(ssm_analysis.analyses.along.gain, "BASIS", 3)
    few = energy_gain(sys, rtol=1e-8, cycles=1)
    assert few.cycles == 1
    assert np.any(few.residual > 1e-8)
    many = energy_gain(sys, rtol=1e-8, cycles=100)
    assert 1 < many.cycles < 100
    assert np.all(many.residual <= 1e-8)
    assert np.all(many.gain >= few.gain * (1 - 1e-15))
    for index in entries(sys):
        np.testing.assert_allclose(many.gain[index], np.linalg.norm(flat(operator(sys, index)), 2), rtol=1e-12)


@pytest.mark.parametrize("name", ["complex_siso", "diagonal_real_siso", "complex_mimo"])
def test_of_a_constant_system_it_grows_toward_the_h_infinity_norm(name):
    sys = STABLE[name]
    bound = hinf_norm(sys)
    gains = [energy_gain(constant(sys, length)).gain for length in (10, 100, 1600)]
    assert gains[0] < gains[1] < gains[2] < bound
    np.testing.assert_allclose(gains[2], bound, rtol=1e-3)


def test_it_can_exceed_every_frozen_gain():
    """Written at one moment with a short memory, read at another: the frozen systems pass nothing at all."""
    L = 40
    B, C = np.zeros((L, 1, 1)), np.zeros((L, 1, 1))
    B[:20], C[20:] = 1, 1
    sys = DiagonalLTV(log_poles=np.full((L, 1), -1e-3), B=B, C=C, D=np.zeros((1, 1, 1)))
    assert all(hinf_norm(sys.frozen(t)) == 0 for t in (0, 19, 20, 39))
    r = np.exp(-2e-3)  # rank 1: ||(1, r^.5, ...)||^2 over 20 tokens each
    np.testing.assert_allclose(energy_gain(sys).gain, (1 - r**20) / (1 - r), rtol=1e-12)


@pytest.mark.parametrize("name", LTV)
def test_laws(name):
    sys = LTV[name]
    want = energy_gain(sys, rtol=1e-9).gain
    np.testing.assert_allclose(energy_gain(rescaled(sys), rtol=1e-9).gain, want, rtol=1e-11)
    np.testing.assert_allclose(energy_gain(adjoint_system(sys), rtol=1e-9).gain, want, rtol=1e-11)
    doubled = DiagonalLTV(log_poles=sys.log_poles, B=2 * sys.B, C=sys.C, D=2 * sys.D)
    np.testing.assert_allclose(energy_gain(doubled, rtol=1e-9).gain, 2 * want, rtol=1e-11)
    found = energy_gain(in_torch(sys), rtol=1e-9)
    assert isinstance(found.gain, torch.Tensor)
    np.testing.assert_allclose(found.gain.numpy(), want, rtol=1e-11)


def test_members_of_a_batch_are_alone():
    sys = LTV["ltv_batch"]
    whole = energy_gain(sys)
    for i in range(2):
        np.testing.assert_allclose(whole.gain[i], energy_gain(sys[i]).gain, rtol=1e-13)


@pytest.mark.parametrize("complex_", [True, False])
def test_gradients_are_those_of_the_singular_value(complex_):
    """Of the matrix written out; and numerically, along random directions."""
    fields = {k: torch.tensor(x, requires_grad=True) for k, x in random_fields(9, 2, 1, 2, batch=(4,), complex_=complex_).items()}
    values = tuple(fields.values())

    def gain(*x):
        return energy_gain(DiagonalLTV(**dict(zip(fields, x, strict=True))), rtol=1e-9, cycles=3).gain

    T = torch.movedim(hidden_attention(DiagonalLTV(**fields)), 1, 2)  # (t, p, s, m)
    want = torch.autograd.grad(torch.linalg.matrix_norm(T.reshape(8, 4), 2), values)
    for found, g in zip(torch.autograd.grad(gain(*values), values), want, strict=True):
        np.testing.assert_allclose(found, g, rtol=1e-7, atol=1e-9)
    assert torch.autograd.gradcheck(gain, values, fast_mode=True)


def test_nothing_has_gain_0():
    one = np.ones((4, 2, 1, 1))
    sys = DiagonalLTV(log_poles=-one[..., 0], B=one * np.array([0.0, 1.0])[:, None, None], C=one, D=0 * one)
    found = energy_gain(sys)
    assert found.gain[0] == 0
    assert found.residual[0] == 0
    assert found.gain[1] > 1


def test_nothing_has_a_finite_gradient():
    C = torch.ones(4, 1, 1, dtype=torch.float64, requires_grad=True)
    found = energy_gain(DiagonalLTV(log_poles=-torch.ones(4, 1, dtype=torch.float64), B=0 * C.detach(), C=C, D=0 * C.detach()))
    assert torch.all(torch.autograd.grad(found.gain, C)[0] == 0)


def test_one_token_has_the_gain_of_its_feed_through():
    sys = LTV["ltv_one_token"]
    np.testing.assert_allclose(energy_gain(sys).gain, np.linalg.norm(sys.D[0], 2), rtol=1e-12)


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    sys = LTV["ltv_real"]
    for rtol in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="rtol must be positive, got"):
            energy_gain(sys, rtol=rtol)
    for cycles in (0, 1.5, True):
        with pytest.raises(ValueError, match="cycles must be a positive integer, got"):
            energy_gain(sys, cycles=cycles)
    with pytest.raises(TypeError, match="energy_gain takes one of DiagonalLTV, got DiagonalSSM"):
        energy_gain(sys.frozen(0))
