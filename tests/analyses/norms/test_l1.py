"""The gain from peak to peak."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, simulate
from ssm_analysis.analyses.norms.l1 import l1_bounds, l1_norm
from ssm_analysis.analyses.responses.time import markov_parameters
from tests.support.systems_table import STABLE, UNSTABLE, in_torch, random_fields

DIAGONAL = [name for name, sys in STABLE.items() if name.startswith(("complex", "diagonal", "realpart")) and "light" not in name]


def siso(log_poles, residues, through=0.0, kind=DiagonalSSM):
    n = len(log_poles)
    return kind(log_poles=np.asarray(log_poles), B=np.ones((n, 1)), C=np.asarray(residues)[None, :], D=np.full((1, 1), through))


@pytest.mark.parametrize("name", [name for name in STABLE if "light" not in name])
def test_definition(name):
    """Rows of sums of |D|, |C B|, |C A B|, ..."""
    sizes = np.sum(np.abs(markov_parameters(STABLE[name], 1500)), axis=-3)
    np.testing.assert_allclose(l1_norm(STABLE[name]), np.max(np.sum(sizes, axis=-1), axis=-1), rtol=1e-9)


@pytest.mark.parametrize("name", DIAGONAL)
def test_bounds(name):
    bounds, value = l1_bounds(STABLE[name]), l1_norm(STABLE[name], rtol=1e-14)
    assert np.all(bounds.lower <= value)
    assert np.all(value <= bounds.upper)
    assert np.all(bounds.upper <= bounds.lower * (1 + 1e-6))


@given(st.floats(3e-5, 0.9), st.floats(-3, 3), st.floats(0, 5))
def test_one_mode(damping, angle, through):
    """|D| + sum |l|^k = |D| + 1 / (1 - |l|), signs or phases aside."""
    expected = through + 1 / damping
    sys = siso([np.log1p(-damping) + 1j * angle], [1.0 + 0j], through)
    bounds = l1_bounds(sys, rtol=1e-3)
    assert bounds.lower <= expected * (1 + 1e-12)
    assert expected * (1 - 1e-12) <= bounds.upper <= bounds.lower * 1.0011
    if damping > 1e-3:
        np.testing.assert_allclose(l1_norm(sys), expected, rtol=1e-9)


@given(st.integers(1, 8), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 10**6))
def test_soundness(n, m, p, real, seed):
    """A sum much longer than the bounds need, for damping from 1e-3 and angles of several turns."""
    rng, fields = np.random.default_rng(seed), random_fields(seed, n, m, p)
    fields["log_poles"] = -(10 ** rng.uniform(-3, -0.3, n)) + 1j * rng.uniform(-9, 9, n)
    sys = RealDiagonalSSM(**(fields | {"D": fields["D"].real})) if real else DiagonalSSM(**fields)
    bounds = l1_bounds(sys, rtol=1e-3)
    total = np.max(np.sum(np.sum(np.abs(markov_parameters(sys, 2**15)), axis=-3), axis=-1))
    assert bounds.lower <= total * (1 + 1e-13)
    assert total * (1 - 1e-13) <= bounds.upper <= bounds.lower * 1.001


@pytest.mark.parametrize("kind", [DiagonalSSM, RealDiagonalSSM])
def test_too_long_memory(kind):
    """Damping of 1e-9: bounds stay true, the norm says what is missing."""
    sys = siso([-1e-9 + 1j, -1e-2], [1.0 + 0j, 1.0], kind=kind)
    bounds = l1_bounds(sys, max_length=2**14)
    assert bounds.lower < 1e5 < 6e8 < bounds.upper
    with pytest.raises(
        ValueError, match=r"longer than max_length = 16384 tokens for a relative accuracy of 1e-09 in 1 of 1 systems; raise"
    ):
        l1_norm(sys, max_length=2**14)


def test_lengths_are_chosen_for_each_system():
    sys = DiagonalSSM(
        log_poles=np.array([[-1e-4], [-1.0], [-1e-3], [-2.0]]), B=np.ones((4, 1, 1)), C=np.ones((4, 1, 1)), D=np.zeros((4, 1, 1))
    )
    np.testing.assert_allclose(l1_norm(sys), 1 / -np.expm1(sys.log_poles[:, 0]), rtol=1e-9)
    assert np.all(l1_bounds(sys).upper >= 1 / -np.expm1(sys.log_poles[:, 0]))


def test_it_is_the_gain_of_the_worst_input():
    """The input that turns every term of the convolution positive."""
    sys = STABLE["realpart_siso"]
    kernel = markov_parameters(sys, 400)[:, 0, 0]
    worst = np.sign(kernel[::-1])[:, None]
    np.testing.assert_allclose(np.max(np.abs(simulate(sys, worst))), l1_norm(sys), rtol=1e-9)


def test_torch_and_empty_batches():
    bounds = l1_bounds(in_torch(STABLE["realpart_mimo_batch"]))
    assert isinstance(bounds.upper, torch.Tensor)
    np.testing.assert_allclose(bounds.upper.numpy(), l1_bounds(STABLE["realpart_mimo_batch"]).upper, rtol=1e-12)
    assert l1_bounds(STABLE["realpart_mimo_batch"][:0]).lower.shape == (0,)


@pytest.mark.parametrize("name", [name for name in UNSTABLE if not name.startswith("dense")])
def test_unstable(name):
    bounds = l1_bounds(UNSTABLE[name])
    assert np.isposinf(np.ravel(bounds.lower)[-1])
    assert np.isposinf(np.ravel(bounds.upper)[-1])


@pytest.mark.parametrize("f", [l1_norm, l1_bounds])
def test_options(f):
    with pytest.raises(ValueError, match="rtol must be a positive number, got 0"):
        f(STABLE["complex_siso"], rtol=0.0)
    with pytest.raises(ValueError, match="max_length must be at least 1024 tokens, got 1000"):
        f(STABLE["complex_siso"], max_length=1000)


@pytest.mark.usefixtures("unchecked_annotations")
def test_bounds_are_for_diagonal_systems():
    with pytest.raises(TypeError, match="l1_bounds takes one of DiagonalSSM, RealDiagonalSSM, got StateSpace"):
        l1_bounds(STABLE["dense_siso"])
