"""How near a stored parameter must come to a fresh one to count as equal, and comparisons that several families share."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.families.shared.facts import FreshTensor

ROUNDED = 2.0**-8
"""Half the distance of neighboring bfloat16 numbers, relative to them: as near as a stored copy comes to what it was."""
EXACT = 2.0**-20
"""The same of float32, with room for the arithmetic of an initialization that runs in it."""


def is_close(x: np.ndarray, expected: np.ndarray, rtol: float = ROUNDED) -> bool:
    """Return whether every entry of ``x`` is that of ``expected`` to a relative ``rtol``."""
    return bool(np.all(np.abs(x - expected) <= rtol * np.abs(expected) + EXACT))


def fresh_log_rates(name: str, log_rates: np.ndarray, words: str) -> Iterator[FreshTensor]:
    """Yield the tensor if its rows (..., n) are log(1..n), for which ``words`` stand, or one number everywhere."""
    n = log_rates.shape[-1]
    if n > 1 and is_close(log_rates, np.log(np.arange(1, n + 1.0))):
        yield FreshTensor(name=name, words=words, suspicious=True)
    elif log_rates.size > 1 and np.all(log_rates == log_rates.flat[0]):
        yield FreshTensor(name=name, words=f"{log_rates.flat[0]:.6g} everywhere", suspicious=True)


def fresh_step_bias(name: str, x: np.ndarray) -> Iterator[FreshTensor]:
    """Yield the bias of a step if it is one number everywhere."""
    if x.size > 1 and np.all(x == x.flat[0]):
        remark = ", what transformers puts there before it loads" if x.flat[0] == 1 else ""
        yield FreshTensor(name=name, words=f"{x.flat[0]:.6g} everywhere{remark}", suspicious=True)


def fresh_feedthrough(D: np.ndarray) -> Iterator[FreshTensor]:
    """Yield D if it is 1 everywhere, as at initialization."""
    if D.size > 1 and np.all(D == 1):
        yield FreshTensor(name="D", words="1 everywhere, as at initialization", suspicious=False)
