"""Sizes of the state, and the distance to the largest number of a format, which torch knows by itself."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV
from ssm_analysis.analyses.along.growth import LARGEST, state_growth
from tests.support.families_table import LAYERS, SELECTIVE, an_input
from tests.support.ltv_table import LTV, entries
from tests.support.systems_table import in_torch, random_fields


def an_input_for(sys, seed=3):
    return np.random.default_rng(seed).normal(size=(sys.length, *sys.batch_shape, sys.ninputs))


def states(sys, u, index):
    """x[1], ..., x[L], step by step."""
    lam, B, u = (np.asarray(x)[(slice(None), *index)] for x in (np.exp(sys.log_poles), sys.B, u))
    x, found = np.zeros(sys.nstates, dtype=complex), []
    for k in range(sys.length):
        x = lam[k] * x + B[k] @ u[k]
        found.append(x)
    return np.array(found)


def test_the_largest_numbers_are_those_of_torch():
    for name, largest in LARGEST.items():
        assert torch.finfo(getattr(torch, name)).max == largest


@pytest.mark.parametrize("name", LTV)
def test_sizes_are_those_of_the_states(name):
    sys = LTV[name]
    u = an_input_for(sys)
    found = state_growth(sys, u)
    for index in entries(sys):
        x = states(sys, u, index)
        at = (slice(None), *index)
        peak = np.max(np.maximum(np.abs(x.real), np.abs(x.imag)), axis=1)
        np.testing.assert_allclose(found.largest[at], peak, rtol=1e-11)
        np.testing.assert_allclose(found.rms[at], np.sqrt(np.mean(np.abs(x) ** 2, axis=1)), rtol=1e-11)
        np.testing.assert_allclose(found.headroom[index], np.log10(list(LARGEST.values())) - np.log10(np.max(peak)), rtol=1e-11)
        late = slice(sys.length // 2, None)
        if sys.length > 2:
            np.testing.assert_allclose(found.trend[index], np.polyfit(np.arange(sys.length)[late], np.log(peak[late]), 1)[0], rtol=1e-8)


@pytest.mark.parametrize("name", SELECTIVE)
def test_of_layers(name):
    layer = LAYERS[name]()
    u = an_input(layer, 9)
    found = state_growth(layer.along(u), layer.core_input(u))
    assert found.largest.shape == layer.core_input(u).shape[:-1]
    assert np.all(np.isfinite(found.largest))


def test_a_warning_before_the_overflow():
    """2^k passes 65504 = 2^16 (1 - 2^-11) at k = 16: so many tokens are left when the last of them has k = 9."""
    one = np.ones((10, 1, 1))
    sys = DiagonalLTV(log_poles=np.full((10, 1), np.log(2.0)), B=one, C=one, D=one)
    found = state_growth(sys, np.eye(10, 1)[:, [0]])
    np.testing.assert_allclose(found.trend, np.log(2), rtol=1e-12)
    np.testing.assert_allclose(found.headroom[0], np.log10(65504 / 2**9), rtol=1e-12)
    np.testing.assert_allclose(found.tokens_left[0], np.log2(65504 / 2**9), rtol=1e-12)
    over = state_growth(sys, 1e6 * np.eye(10, 1)[:, [0]])
    assert over.headroom[0] < 0
    assert over.tokens_left[0] == 0
    assert over.headroom[1] > 0


def test_states_that_shrink_or_stay_0_never_overflow():
    one = np.ones((10, 1, 1))
    sys = DiagonalLTV(log_poles=np.full((10, 1), -1.0), B=one, C=one, D=one)
    found = state_growth(sys, np.eye(10, 1)[:, [0]])
    assert found.trend < 0
    np.testing.assert_array_equal(found.tokens_left, np.inf)
    nothing = state_growth(sys, np.zeros((10, 1)))
    np.testing.assert_array_equal(nothing.headroom, np.inf)
    np.testing.assert_array_equal(nothing.tokens_left, np.inf)
    assert np.isnan(nothing.trend)


def test_batch_and_torch():
    sys = LTV["ltv_batch"]
    u = an_input_for(sys)
    whole, live = state_growth(sys, u), state_growth(in_torch(sys), torch.tensor(u))
    for field in ("largest", "rms", "headroom", "trend", "tokens_left"):
        np.testing.assert_allclose(getattr(live, field).numpy(), getattr(whole, field), rtol=1e-10)
    for i in range(2):
        np.testing.assert_allclose(state_growth(sys[i], u[:, i]).headroom, whole.headroom[i], rtol=1e-12)


def test_gradients():
    fields = {k: torch.tensor(x, requires_grad=True) for k, x in random_fields(10, 2, 1, 1, batch=(5,), complex_=False).items()}
    u = torch.tensor(np.random.default_rng(1).normal(size=(5, 1)))

    def sizes(*x):
        found = state_growth(DiagonalLTV(**dict(zip(fields, x, strict=True))), u)
        return found.rms, found.largest, found.headroom, found.trend

    assert torch.autograd.gradcheck(sizes, tuple(fields.values()))


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    sys = LTV["ltv_batch"]
    with pytest.raises(ValueError, match=r"u must have shape \(11, 2, 3, 1\), \(L, \*batch, m\) of the system, .* got \(11, 1\)"):
        state_growth(sys, np.ones((11, 1)))
    with pytest.raises(TypeError, match="u must be an array of the library of the system"):
        state_growth(sys, torch.ones((11, 2, 3, 1)))
    with pytest.raises(TypeError, match="state_growth takes one of DiagonalLTV, got DiagonalSSM"):
        state_growth(sys.frozen(0), np.ones((11, 2, 3, 1)))
