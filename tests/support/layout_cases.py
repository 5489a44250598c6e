"""What the tests of checkpoint layouts share: a stored layer beside what the original formula makes of it.

Nothing here is imported from the package but `load` and `simulate`: the formulas are those of the original code, written out.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ssm_analysis import simulate
from ssm_analysis.checkpoint.loading import load

REVERSE = ":reverse"
TRANSFORMS = {
    "exp": np.exp,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "relu": lambda x: np.maximum(x, 0) + 1e-4,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "none": lambda x: x,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """The tensors of one layer, what must be said beside them, and the kernels of their single-input systems."""

    tensors: dict[str, np.ndarray]
    kernels: np.ndarray
    """(channels, H, L): what one token does to its own and later outputs."""
    D: np.ndarray
    """(outputs, H)"""
    assume: dict[str, Any] = field(default_factory=dict)


def complex_of(x):
    return x[..., 0] + 1j * x[..., 1]


def pairs_of(x):
    return np.stack([x.real, x.imag], axis=-1)


def causal(kernel, u):
    """y[t] = sum_j kernel[j] u[t - j]."""
    return np.convolve(kernel, u)[: len(u)]


def both_directions(case, u):
    """(L, H, outputs), by S4's convention: the second half of the channels reads u[t + 1], u[t + 2], ..."""
    outputs, two = len(case.D), len(case.kernels) == 2 * len(case.D)
    y = np.empty((*u.shape, outputs))
    for h in range(u.shape[1]):
        for c in range(outputs):
            y[:, h, c] = causal(case.kernels[c, h], u[:, h]) + case.D[c, h] * u[:, h]
            if two:
                backward = causal(case.kernels[outputs + c, h], u[::-1, h])[::-1]
                y[:-1, h, c] += backward[1:]
    return y


def output(layers, u):
    """The sum of both directions of the only layer."""
    (name,) = [name for name in layers if not name.endswith(REVERSE)]
    y = simulate(layers[name].system(), layers[name].core_input(u))
    if name + REVERSE in layers:
        backward = layers[name + REVERSE]
        y = y + simulate(backward.system(), backward.core_input(u[::-1].copy()))[::-1]
    return y


def assert_reads(case, length, *, rtol=1e-10):
    """`load` finds one layer in the tensors of the case, and its system does what the kernels do."""
    u = np.random.default_rng(1).standard_normal((length, case.D.shape[1]))
    layers = load(case.tensors, assume=case.assume)
    assert len(layers) == 1 + (len(case.kernels) == 2 * len(case.D))
    want = both_directions(case, u)
    np.testing.assert_allclose(output(layers, u), want, rtol=0, atol=rtol * np.max(np.abs(want)))
    return layers
