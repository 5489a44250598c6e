r"""The decay of diagonal modes from the numbers that are stored: exact signs, and enclosures of the rates.

-Re log(lambda) = delta r for the zero-order hold, with r = -Re a; for the bilinear rule, with w = delta a / 2,

    1 - |lambda|^2 = q = -4 Re w / |1 - w|^2,   -Re log(lambda) = -log(1 - q) / 2 in [q/2 + q^2/4, q / (2 (1 - q))],

and for the LRU exp(nu). No exponential is rounded on the way to a sign.
"""

from dataclasses import dataclass

import numpy as np

from ssm_analysis.certificates.rounding import Interval
from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM
from ssm_analysis.xp import double, real, to_numpy


@dataclass(frozen=True, eq=False, kw_only=True)
class Decay:
    """How each mode of a diagonal system decays.

    Parameters
    ----------
    sign
        Exact sign of Re log(lambda), (*batch, n): -1 decays, 0 stays, 1 grows.
    rate
        Enclosure of -Re log(lambda), per token.
    factors
        Exact numbers whose product has that sign (positive factors left out); shapes broadcast to that of ``sign``.
    formula
        What they are.
    theorem
        Key of the theorem that the sign rests on.
    """

    sign: np.ndarray
    rate: Interval
    factors: tuple[np.ndarray, ...]
    formula: str
    theorem: str = "sign"


def decay_of_system(sys: DiagonalSSM | RealDiagonalSSM) -> Decay:
    """Return the log-poles are the data: their real parts have the sign."""
    re = to_numpy(double(real(sys.log_poles))).astype(np.float64)
    return Decay(sign=np.sign(re).astype(int), rate=Interval.exact(-re), factors=(re,), formula="Re log(lambda)")


def product_sign(factors: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the exact sign of a product of exact numbers."""
    sign = np.ones(np.broadcast_shapes(*(f.shape for f in factors)), dtype=int)
    for factor in factors:
        sign = sign * np.sign(factor).astype(int)
    return sign


def bilinear_rate(decay: Interval, angle: Interval) -> Interval:
    """Enclose the decay rate of a pole that the bilinear rule makes of delta r and delta Im a, of whatever sign.

    A pole outside the circle has a negative rate.
    """
    half = Interval.exact(np.full(decay.lo.shape, 0.5))
    x, y = decay * half, angle * half  # w = -x + i y
    size = Interval(np.maximum(-x.hi, x.lo), np.maximum(np.abs(x.lo), np.abs(x.hi)))
    size = Interval(np.maximum(size.lo, 0.0), size.hi)
    one = Interval.exact(np.ones(x.lo.shape))
    q = (Interval.exact(np.full(x.lo.shape, 4.0)) * size).over((one + size).square() + y.square())
    q = Interval(q.lo, np.minimum(q.hi, 1.0))
    low = q * half + (q * half).square()
    high = (q * half).over(one - q)
    rate = Interval(low.lo, np.where(q.hi < 1, high.hi, np.inf))
    grows, decays = x.hi < 0, x.lo > 0
    straddles = ~(grows | decays)
    bound = np.where(straddles, rate.hi, 0.0)
    return Interval(np.where(grows, -rate.hi, np.where(straddles, -bound, rate.lo)), np.where(grows, -rate.lo, rate.hi))
