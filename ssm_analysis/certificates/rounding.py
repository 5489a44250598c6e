r"""Arithmetic that errs on one side: intervals of doubles, counted rounding of sums and products, elementary functions in balls.

The four operations and the square root of IEEE 754 are rounded to nearest, so one step outward encloses them. A sum of
products of n terms has the relative error gamma_n = n u / (1 - n u) at most in terms of absolute values, in any order, with or
without fused operations (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1). Exponentials,
softplus and SiLU are evaluated by Arb: no claim about the mathematical library of the machine is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import flint

Numbers: TypeAlias = Any
"""An array of doubles, or one double."""
UNIT = 2.0**-53
TINY = 2.0**-960
"""Exceeds what underflow can take from a sum of up to 2^50 products whose factors are doubles below 2^64."""
BITS = 80
"""Working precision of elementary functions: their balls are then narrower than the step outward."""


def counted(n: int) -> float:
    """Return gamma_n, rounded up."""
    assert n < 2**40
    return (n + 1) * UNIT * (1 + 2.0**-10)


def above(x: Numbers, n: int) -> Numbers:
    """Return an upper bound of a number >= 0 that was computed as ``x`` with n roundings of terms >= 0."""
    return np.nextafter(x * (1 + counted(n + 3)) + TINY, np.inf)


def upward(x: Numbers) -> Numbers:
    """Return one step up."""
    return np.nextafter(x, np.inf)


def downward(x: Numbers) -> Numbers:
    """Return one step down."""
    return np.nextafter(x, -np.inf)


@dataclass(frozen=True, eq=False)
class Interval:
    """Arrays lo <= x <= hi of doubles; every operation rounds outward."""

    lo: Numbers
    hi: Numbers

    @classmethod
    def exact(cls, x: Numbers) -> "Interval":
        """Return a point."""
        x = np.asarray(x, dtype=np.float64)
        return cls(x, x)

    @classmethod
    def ball(cls, center: Numbers, radius: Numbers) -> "Interval":
        """center +- radius."""
        return cls(downward(center - radius), upward(center + radius))

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(downward(self.lo + other.lo), upward(self.hi + other.hi))

    def __sub__(self, other: "Interval") -> "Interval":
        return self + (-other)

    def __neg__(self) -> "Interval":
        return Interval(-self.hi, -self.lo)

    def __mul__(self, other: "Interval") -> "Interval":
        with np.errstate(invalid="ignore"):  # 0 times infinity: 0 by the convention of intervals
            ends = [np.nan_to_num(x * y, nan=0.0, posinf=np.inf, neginf=-np.inf) for x in (self.lo, self.hi) for y in (other.lo, other.hi)]
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        positive = (self.lo >= 0) & (other.lo >= 0)
        return Interval(np.where(positive, np.maximum(downward(low), 0), downward(low)), upward(high))

    def __getitem__(self, index: object) -> "Interval":
        return Interval(self.lo[index], self.hi[index])  # type: ignore[index]

    def square(self) -> "Interval":
        """Return x^2."""
        small, large = self.least_size(), self.size()
        return Interval(np.maximum(downward(small * small), 0), upward(large * large))

    def over(self, other: "Interval") -> "Interval":
        """Return the quotient of intervals >= 0 whose divisor is positive."""
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            low, high = self.lo / other.hi, np.where(self.hi == 0, 0, self.hi / other.lo)
        return Interval(np.maximum(downward(low), 0), upward(high))

    def size(self) -> Numbers:
        """Return max |x|."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def least_size(self) -> Numbers:
        """Return min |x|."""
        return np.where((self.lo <= 0) & (self.hi >= 0), 0.0, np.minimum(np.abs(self.lo), np.abs(self.hi)))

    def inflated(self, radius: Numbers) -> "Interval":
        """Return everything within ``radius``."""
        return Interval(downward(self.lo - radius), upward(self.hi + radius))


def increasing(f: "Callable[[flint.arb], flint.arb]", x: Interval, *, positive: bool = True) -> Interval:
    """Return f of an interval for an increasing f, in balls, each different end once."""
    low, high = ends(f, x.lo)[0], ends(f, x.hi)[1]
    return Interval(np.maximum(low, 0.0) if positive else low, high)


def ends(f: "Callable[[flint.arb], flint.arb]", x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return doubles below and above f(x), entry by entry; about 3 microseconds for each different entry."""
    import flint

    values, back = np.unique(np.asarray(x, dtype=np.float64), return_inverse=True)
    with flint.ctx.workprec(BITS):
        balls = [f(flint.arb(v)) for v in values.tolist()]
        low = np.array([float(b.lower()) for b in balls], dtype=np.float64)
        high = np.array([float(b.upper()) for b in balls], dtype=np.float64)
    shape = np.shape(x)
    return downward(low)[back].reshape(shape), upward(high)[back].reshape(shape)


def exp(x: Interval) -> Interval:
    """Return e^x."""
    return increasing(lambda b: b.exp(), x)


def softplus(x: Interval) -> Interval:
    """Return log(1 + e^x), as max(x, 0) + log1p(e^-|x|) so that it neither overflows nor loses a small result."""
    return increasing(ball_softplus, x)


def sigmoid(x: Interval) -> Interval:
    """Return 1 / (1 + e^-x)."""
    return increasing(lambda b: 1 / (1 + (-b).exp()), x)


def silu_size(x: np.ndarray) -> np.ndarray:
    """Return an upper bound of max |silu| over (-inf, x]: silu(x), or 0.2784646 where that is larger."""
    return np.maximum(ends(lambda b: b / (1 + (-b).exp()), np.maximum(x, 0.0))[1], SILU_DEPTH)


def silu_range(x: Interval) -> Interval:
    """Return silu falls up to -1.2784645 and rises behind it."""
    low, high = ends(_silu, x.lo), ends(_silu, x.hi)
    inside = (x.lo < SILU_TURN[1]) & (x.hi > SILU_TURN[0])
    return Interval(np.where(inside, -SILU_DEPTH, np.minimum(low[0], high[0])), np.maximum(low[1], high[1]))


def silu_remainder(size: np.ndarray) -> np.ndarray:
    """Return an upper bound of (s/2) tanh(s/2) over |s| <= size."""
    return ends(lambda b: b / 2 * (b / 2).tanh(), size)[1]


SILU_DEPTH = 0.2784645427610739
"""Above -min silu = 0.27846454276107379..., which is W(1/e) (checked in balls by the tests)."""
SILU_TURN = (-1.2784645427610740, -1.2784645427610736)
"""The minimum of silu, at -1 - W(1/e), lies between the two (checked in balls by the tests)."""


def ball_softplus(b: "flint.arb") -> "flint.arb":
    """Return log(1 + e^b) of a number, also an infinite one."""
    rest = (-abs(b)).exp().log1p()
    return b + rest if b > 0 else rest


def _silu(b: "flint.arb") -> "flint.arb":
    return b / (1 + (-b).exp())


def row_norms(M: np.ndarray) -> np.ndarray:
    """Return upper bounds of the 2-norms of the rows."""
    return above(np.sqrt(np.sum(M * M, axis=-1)), M.shape[-1] + 2)


def largest_eigenvalue(G: np.ndarray, error: float) -> float:
    """Return an upper bound of the largest eigenvalue of a symmetric matrix >= 0 that ``G`` is within ``error`` of, in the 2-norm.

    mu - G is positive semidefinite if Cholesky succeeds on it after everything that rounding can add is taken off
    (Rump, BIT 46 (2006) 433-452; four times his constant, as LAPACK works in blocks).
    """
    n = len(G)
    estimate = estimated_eigenvalue(G)
    for slack in (1e-7, 1e-5, 1e-3, 0.1, 3.0):
        mu = estimate * (1 + slack) + float(TINY)
        shift = 4 * (n + 4) * UNIT * (n * mu + float(np.sum(np.abs(np.diag(G))))) * (1 + 2.0**-20)
        M = -G
        M[np.diag_indices(n)] += mu
        M[np.diag_indices(n)] -= shift
        if not np.all(np.isfinite(M)):  # Cholesky may succeed on NaN
            continue
        try:
            np.linalg.cholesky(M)
        except np.linalg.LinAlgError:
            continue
        return float(upward(np.asarray(mu + error)))
    return float(upward(np.asarray(above(np.trace(np.abs(G)), n) + n * error)))  # the trace of a matrix >= 0


def estimated_eigenvalue(G: np.ndarray) -> float:
    """Return the largest eigenvalue of a symmetric matrix >= 0, without a proof."""
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    if len(G) < 64 or not np.any(G):
        return float(max(np.linalg.eigvalsh(G)[-1], 0.0))
    try:
        return float(
            eigsh(
                G,
                k=1,
                tol=1e-8,  # type: ignore[arg-type]
                v0=np.ones(len(G)) + 1 / np.arange(1, len(G) + 1),
                return_eigenvectors=False,
            )[0]
        )
    except ArpackNoConvergence:
        return float(np.linalg.eigvalsh(G)[-1])
