"""Products along time, the adjoint map, and the system driven by one input."""

import numpy as np
import pytest
import torch

import ssm_analysis.analyses.along.transitions
from ssm_analysis import DiagonalLTV, simulate
from ssm_analysis.analyses.along.transitions import adjoint_system, driven_by, log_products, log_transition, operator_row
from tests.support.ltv_table import LTV, entries, flat, operator
from tests.support.systems_table import in_torch


@pytest.mark.parametrize("name", LTV)
def test_transitions_compose_and_are_the_products(name):
    sys = LTV[name]
    for start in range(sys.length + 1):
        np.testing.assert_array_equal(log_transition(sys, start=start, stop=start), 0)
        for stop in range(start, sys.length + 1):
            found = np.exp(log_transition(sys, start=start, stop=stop))
            np.testing.assert_allclose(found, np.prod(sys.poles()[start:stop], axis=0), rtol=1e-12)


def test_a_product_of_a_million_poles_keeps_its_digits():
    """exp(10^6 log(1 - 1e-12)) = exp(-1e-6): the rounded pole itself would be off by 1e-4."""
    one = np.ones((1_000_000, 1, 1))
    sys = DiagonalLTV(log_poles=np.full((1_000_000, 1), np.log1p(-1e-12)), B=one, C=one, D=one)
    np.testing.assert_allclose(log_transition(sys, start=0, stop=1_000_000), -1e-6, rtol=1e-10)


@pytest.mark.parametrize("name", LTV)
def test_the_adjoint_moves_to_the_other_side_of_the_inner_product(name):
    sys, rng = LTV[name], np.random.default_rng(0)
    u, v = (rng.normal(size=(sys.length, *sys.batch_shape, k)) + 1j * rng.normal(size=(sys.length, *sys.batch_shape, k)) for k in (
        sys.ninputs, sys.noutputs
    ))  # fmt: skip
    left = np.sum(np.conj(v) * simulate(sys, u), axis=(0, -1))
    right = np.sum(np.conj(simulate(adjoint_system(sys), v[::-1])[::-1]) * u, axis=(0, -1))
    np.testing.assert_allclose(left, right, rtol=1e-11)
    for index in entries(sys):
        T = flat(operator(sys, index))
        np.testing.assert_allclose(flat(operator(adjoint_system(sys), index)[::-1, ::-1]), T.conj().T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", LTV)
def test_the_adjoint_of_the_adjoint_is_the_system(name):
    for field in LTV[name].AXES:
        np.testing.assert_array_equal(getattr(adjoint_system(adjoint_system(LTV[name])), field), getattr(LTV[name], field))


@pytest.mark.parametrize("name", LTV)
def test_rows_are_those_of_the_operator(name):
    sys = LTV[name]
    for t in range(sys.length):
        row = operator_row(sys, t)
        assert row.shape == (t + 1, *sys.batch_shape, sys.noutputs, sys.ninputs)
        for index in entries(sys):
            np.testing.assert_allclose(row[(slice(None), *index)], operator(sys, index)[t, : t + 1], rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", LTV)
def test_a_driven_system_answers_to_the_constant_one(name):
    sys, rng = LTV[name], np.random.default_rng(1)
    u = rng.normal(size=(sys.length, *sys.batch_shape, sys.ninputs))
    driven = driven_by(sys, u)
    assert driven.ninputs == 1
    np.testing.assert_allclose(simulate(driven, np.ones((*u.shape[:-1], 1))), simulate(sys, u), rtol=1e-11, atol=1e-12)


def test_sums_from_the_end_are_accurate_to_their_own_size():
    """A difference of sums from the start would leave no digit of the last."""
    mu = -np.array([[1e16], [3.0], [1e-16], [2e-16]])
    np.testing.assert_allclose(log_products(mu)[:, 0], [-3.0, -3e-16, -2e-16, 0], rtol=1e-15)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_both_ways_of_summing_are_the_sums(length, monkeypatch):
    mu = np.random.default_rng(4).normal(size=(length, 3, 2))
    want = np.array([np.sum(mu[s + 1 :], axis=0) for s in range(length)])
    for wide in (1, 100):
        monkeypatch.setattr(ssm_analysis.analyses.along.transitions, "WIDE", wide)
        np.testing.assert_allclose(log_products(mu), want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", LTV)
def test_torch_gives_the_same(name):
    sys = LTV[name]
    row = operator_row(in_torch(sys), sys.length - 1)
    assert isinstance(row, torch.Tensor)
    np.testing.assert_allclose(row.numpy(), operator_row(sys, sys.length - 1), rtol=1e-12)
    stop = sys.length
    np.testing.assert_allclose(
        log_transition(in_torch(sys), start=0, stop=stop).numpy(), log_transition(sys, start=0, stop=stop), rtol=1e-13, atol=1e-14
    )


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    sys = LTV["ltv_batch"]
    with pytest.raises(ValueError, match="0 <= start <= stop <= 11, the number of steps, got 3 and 2"):
        log_transition(sys, start=3, stop=2)
    with pytest.raises(ValueError, match=r"u must have shape \(11, 2, 3, 1\), \(L, \*batch, m\) of the system, as layer.core_input"):
        driven_by(sys, np.ones((11, 1)))
    with pytest.raises(TypeError, match="u must be an array of the library of the system"):
        driven_by(sys, torch.ones((11, 2, 3, 1)))
    with pytest.raises(TypeError, match="adjoint_system takes one of DiagonalLTV, got DiagonalSSM"):
        adjoint_system(sys.frozen(0))
