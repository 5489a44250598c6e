"""Finite-time exponents, and the frozen response with its label."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, DiagonalRecurrence, frequency_response
from ssm_analysis.analyses.along.exponents import bohl_exponents, lyapunov_exponents
from ssm_analysis.analyses.along.frozen_response import FrozenResponse, frozen_response
from ssm_analysis.analyses.along.transitions import log_transition
from ssm_analysis.analyses.spectrum import decay_rates
from tests.support.ltv_table import LTV, constant, rescaled
from tests.support.systems_table import STABLE, TIME_VARYING, in_torch, random_fields


@pytest.mark.parametrize("name", LTV)
def test_the_average_growth_is_that_of_the_whole_product(name):
    sys = LTV[name]
    want = log_transition(sys, start=0, stop=sys.length).real / sys.length
    np.testing.assert_allclose(lyapunov_exponents(sys), want, rtol=1e-13)
    np.testing.assert_allclose(bohl_exponents(sys, window=sys.length), want, rtol=1e-12)
    np.testing.assert_allclose(bohl_exponents(sys, window=1), -np.min(decay_rates(sys), axis=0), rtol=1e-12)


@pytest.mark.parametrize("name", LTV)
def test_the_worst_window_is_found(name):
    sys, size = LTV[name], np.abs(np.exp(LTV[name].log_poles))
    for window in range(1, sys.length + 1):
        want = np.max([np.log(np.prod(size[i : i + window], axis=0)) / window for i in range(sys.length + 1 - window)], axis=0)
        np.testing.assert_allclose(bohl_exponents(sys, window=window), want, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("name", LTV)
def test_longer_windows_that_are_multiples_are_no_worse(name):
    """The mean over 2w is a mean of two over w; and the average of all is never above the worst."""
    sys = LTV[name]
    for window in range(1, sys.length // 2 + 1):
        assert np.all(bohl_exponents(sys, window=2 * window) <= bohl_exponents(sys, window=window) + 1e-13)


@pytest.mark.parametrize("name", ["complex_batch", "diagonal_real_mimo"])
def test_of_a_constant_system_they_are_the_logarithms_of_the_moduli(name):
    sys = STABLE[name]
    for found in (lyapunov_exponents(constant(sys, 7)), bohl_exponents(constant(sys, 7), window=3)):
        np.testing.assert_allclose(found, sys.log_poles.real, rtol=1e-13)


def test_frozen_poles_outside_the_circle_need_not_grow():
    one = np.ones((8, 1, 1))
    sys = DiagonalLTV(log_poles=np.tile([[0.5], [-1.0]], (4, 1)), B=one, C=one, D=one)
    np.testing.assert_allclose(lyapunov_exponents(sys), [-0.25])
    assert bohl_exponents(sys, window=1) == 0.5
    np.testing.assert_allclose(bohl_exponents(sys, window=3), [0.0], atol=1e-15)


@pytest.mark.parametrize("f", [lyapunov_exponents, lambda sys: bohl_exponents(sys, window=3)])
def test_laws_of_a_batch_and_of_libraries(f):
    for name in ("ltv_batch", "ltv_complex", "recurrence_batch"):
        sys = TIME_VARYING[name]
        np.testing.assert_allclose(f(in_torch(sys)).numpy(), f(sys), rtol=1e-13)
    sys = LTV["ltv_batch"]
    np.testing.assert_array_equal(f(rescaled(sys)), f(sys))
    for i in range(2):
        np.testing.assert_allclose(f(sys)[i], f(sys[i]), rtol=1e-14)
    fields = {k: torch.tensor(x, requires_grad=True) for k, x in random_fields(6, 2, 1, 1, batch=(6,)).items()}
    assert torch.autograd.gradcheck(lambda mu: f(DiagonalRecurrence(**(fields | {"log_poles": mu}))), (fields["log_poles"],))


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    sys = LTV["ltv_real"]
    for window in (0, 12, 2.0, True):
        with pytest.raises(ValueError, match="window must be an integer from 1 to 11, the number of tokens, got"):
            bohl_exponents(sys, window=window)
    with pytest.raises(TypeError, match="lyapunov_exponents takes one of DiagonalLTV, DiagonalRecurrence, got DiagonalSSM"):
        lyapunov_exponents(sys.frozen(0))
    with pytest.raises(TypeError, match="bohl_exponents takes one of"):
        bohl_exponents(sys.frozen(0), window=1)


# frozen


@pytest.mark.parametrize("name", LTV)
def test_a_frozen_response_is_that_of_the_moment_and_says_so(name):
    sys, omega = LTV[name], np.linspace(0, np.pi, 5)
    found = frozen_response(sys, -1, omega)
    assert isinstance(found, FrozenResponse)
    assert "NOT the gain" in (FrozenResponse.__doc__ or "")
    assert found.at == sys.length - 1
    np.testing.assert_array_equal(found.omega, omega)
    np.testing.assert_array_equal(found.response, frequency_response(sys.frozen(sys.length - 1), omega))


@pytest.mark.usefixtures("unchecked_annotations")
def test_only_time_varying_systems_are_frozen():
    with pytest.raises(TypeError, match="frozen_response takes one of DiagonalLTV, got DiagonalSSM"):
        frozen_response(LTV["ltv_real"].frozen(0), 0, np.zeros(1))
    with pytest.raises(IndexError, match=r"at must be a step of 0..10, got 11"):
        frozen_response(LTV["ltv_real"], 11, np.zeros(1))
