"""The transforms of S4 and S4D, in floating point and in balls."""

import array_api_strict
import flint
import numpy as np
import pytest
import torch

from ssm_analysis.families.shared.transforms import apply_transform, exact_transform, tile_copies

NAMES = ("exp", "softplus", "relu", "sigmoid", "none")
POINTS = np.asarray([-30.0, -2.5, -1e-9, 0.3, 7.0, 40.0])
TORCH = {
    "exp": torch.exp,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=100),
    "relu": lambda x: torch.relu(x) + 1e-4,
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,
}


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_those_of_torch(name):
    want = TORCH[name](torch.as_tensor(POINTS)).numpy()
    np.testing.assert_allclose(apply_transform(name, POINTS), want, rtol=1e-14)
    np.testing.assert_allclose(apply_transform(name, torch.as_tensor(POINTS)).numpy(), want, rtol=1e-14)
    strict = apply_transform(name, array_api_strict.asarray(POINTS))
    np.testing.assert_allclose(np.asarray(strict), want, rtol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_ball_contains_the_float(name):
    with flint.ctx.workprec(100):
        balls = [exact_transform(name, x) for x in POINTS]
        np.testing.assert_allclose(apply_transform(name, POINTS), [float(ball) for ball in balls], rtol=1e-14)
        assert all(ball.rel_accuracy_bits() > 40 for ball in balls)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    x = torch.tensor([-2.5, -0.1, 0.3, 7.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: apply_transform(name, x), (x,))


@pytest.mark.parametrize("name", ["softplus", "sigmoid"])
def test_no_overflow_far_out(name):
    far = apply_transform(name, np.asarray([-1000.0, 1000.0]))
    np.testing.assert_array_equal(far, [0.0, 1000.0 if name == "softplus" else 1.0])


def test_copies_are_dealt_round_and_round():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(tile_copies(x, 4), np.stack([x[h % 2] for h in range(4)]))
    np.testing.assert_array_equal(tile_copies(torch.as_tensor(x), 6).numpy(), np.stack([x[h % 2] for h in range(6)]))


def test_bad_input():
    with pytest.raises(ValueError, match=r"exp, softplus, relu, sigmoid, none, got 'tanh'"):
        apply_transform("tanh", POINTS)
    with pytest.raises(ValueError, match=r"got 'tanh'"):
        exact_transform("tanh", 1.0)
    with pytest.raises(ValueError, match=r"multiple of the number of copies \(n_ssm\), got 4 and 3"):
        tile_copies(np.zeros((3, 2)), 4)
