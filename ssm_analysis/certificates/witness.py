"""Examples that refute a property, each of which can be run again in an implementation of its own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ssm_analysis.certificates.subject import RecurrentLayer
from ssm_analysis.xp import double, to_numpy

DIGITS = 60
"""Decimal digits of replays in mpmath: four times those of a double; more where a margin is smaller still."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a witness measured when it ran again.

    Parameters
    ----------
    violated
        Whether the property fails there.
    measured, limit
        The number that was measured and the one that it had to stay below (for margins: the margin beyond the limit, and 0).
    what
        What was measured, in words.
    implementation
        What ran.
    """

    violated: bool
    measured: float
    limit: float
    what: str
    implementation: str


class Witness(ABC):
    """An example that refutes."""

    kind: ClassVar[str]

    @abstractmethod
    def replay(self) -> Replay:
        """Run it again, in another implementation than the one that found it."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line of text."""

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON takes."""
        return {"kind": self.kind, "description": self.describe()}


@dataclass(frozen=True, eq=False, kw_only=True)
class UnstableMode(Witness):
    """A diagonal mode with Re log(lambda) >= 0, by the sign of the numbers that it is computed from.

    Parameters
    ----------
    index
        Batch entry and mode.
    factors
        Exact numbers whose product has the sign of Re log(lambda).
    formula
        What they are.
    """

    index: tuple[int, ...]
    factors: tuple[float, ...]
    formula: str

    kind: ClassVar[str] = "unstable mode"

    def replay(self) -> Replay:
        """Return the product in mpmath, which neither rounds to 0 nor overflows."""
        import mpmath

        with mpmath.workdps(DIGITS):
            product = mpmath.fprod(mpmath.mpf(x) for x in self.factors)
            return Replay(violated=bool(product >= 0), measured=float(product), limit=0.0, what=self.formula, implementation="mpmath")

    def describe(self) -> str:
        """Return one line of text."""
        numbers = ", ".join(f"{x:.6g}" for x in self.factors)
        return f"mode {self.index} does not decay: {self.formula} >= 0, from {numbers}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Eigenvalue(Witness):
    """An eigenvalue of a full matrix that is proved to lie on or outside the unit circle.

    Parameters
    ----------
    A
        The matrix, its entries taken as exact numbers.
    value
        The eigenvalue, rounded.
    margin
        Proved lower bound of |lambda| - 1.
    index
        Batch entry.
    """

    A: np.ndarray
    value: complex
    margin: float
    index: tuple[int, ...] = ()

    kind: ClassVar[str] = "eigenvalue"

    def replay(self) -> Replay:
        """Return Two-sided inverse iteration in mpmath; LAPACK beyond 48 states, where that takes longer than a second."""
        if len(self.A) > 48:
            size = float(np.max(np.abs(np.linalg.eigvals(self.A))))
            return Replay(violated=size >= 1, measured=size - 1, limit=0.0, what="|lambda| - 1", implementation="LAPACK")
        value = newton_eigenvalue(self.A, self.value)
        return Replay(
            violated=bool(abs(value) >= 1), measured=float(abs(value) - 1), limit=0.0, what="|lambda| - 1", implementation="mpmath"
        )

    def describe(self) -> str:
        """Return one line of text."""
        where = f" of entry {self.index}" if self.index else ""
        return f"eigenvalue {self.value:.12g}{where}, |lambda| - 1 >= {self.margin:.3g}"


def newton_eigenvalue(A: np.ndarray, value: complex, *, steps: int = 6) -> Any:
    """Return the eigenvalue of A next to ``value``, by Rayleigh quotients with a two-sided inverse iteration in mpmath."""
    import mpmath

    with mpmath.workdps(DIGITS):
        matrix, n = mpmath.matrix(A.tolist()), len(A)
        found = mpmath.mpc(value)
        shift = found * (1 + mpmath.mpf(10) ** -20) + mpmath.mpf(10) ** -25
        x, y = (mpmath.matrix([mpmath.mpf(1) + mpmath.mpf(k) / (7 + 3 * s) for k in range(n)]) for s in (0, 1))
        for _ in range(steps):
            pencil = matrix - shift * mpmath.eye(n)
            try:
                x, y = mpmath.lu_solve(pencil, x), mpmath.lu_solve(pencil.T, y)
            except ZeroDivisionError:  # the shift is the eigenvalue
                return shift
            x, y = x / mpmath.norm(x), y / mpmath.norm(y)
            below = (y.T * x)[0]
            if abs(below) < mpmath.mpf(10) ** (-DIGITS // 2):
                break
            found = (y.T * (matrix * x))[0] / below
            shift = found + mpmath.mpf(10) ** (5 - DIGITS)
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Stretch(Witness):
    """A state that one step makes longer: |A x| > |x|."""

    A: np.ndarray
    x: np.ndarray
    index: tuple[int, ...] = ()

    kind: ClassVar[str] = "stretched state"

    def replay(self) -> Replay:
        """Return the two lengths in rational arithmetic."""

        def square(rows: list[list[Fraction]]) -> Fraction:
            return sum((v * v for row in rows for v in row), Fraction(0))

        A = [[Fraction(float(v)) for v in row] for row in _real_form(self.A)]
        x = [Fraction(float(v)) for v in np.concatenate([np.real(self.x), np.imag(self.x)])]
        after = [[sum((a * b for a, b in zip(row, x, strict=True)), Fraction(0))] for row in A]
        growth = square(after) / square([[v] for v in x]) - 1
        return Replay(
            violated=growth > 0,
            measured=float(min(growth, LARGEST)),
            limit=0.0,
            what="|A x|^2 / |x|^2 - 1",
            implementation="rational arithmetic",
        )

    def describe(self) -> str:
        """Return one line of text."""
        where = f" of entry {self.index}" if self.index else ""
        return f"a state x{where} with |A x| > |x| (plain Euclidean length)"


def _real_form(A: np.ndarray) -> np.ndarray:
    """Return [[Re, -Im], [Im, Re]]."""
    return np.block([[np.real(A), -np.imag(A)], [np.imag(A), np.real(A)]])


@dataclass(frozen=True, eq=False, kw_only=True)
class Drive(Witness):
    """An input along which the state, or a pole, of a selective layer breaks a limit.

    Parameters
    ----------
    layer
        The layer.
    u
        What enters it, (L, d_model).
    index
        Channel (and state) that breaks it.
    quantity
        ``state``: the largest |h|; ``pole``: the largest pole, rounded to ``dtype``.
    limit
        What the number must stay below.
    dtype
        Of the executed recurrence, as numpy or ml_dtypes name it.
    """

    layer: RecurrentLayer
    u: np.ndarray
    index: tuple[int, ...]
    quantity: str
    limit: float
    dtype: str

    kind: ClassVar[str] = "input"

    def replay(self) -> Replay:
        """Return through the system that the family exports along u, state by state in numpy, apart from the code that searched."""
        along = self.layer.map(lambda x: to_numpy(double(x))).along(np.asarray(self.u, dtype=np.float64))
        channel = (slice(None), *self.index)
        mu = np.broadcast_to(along.log_poles, along.B.shape[:-1])[channel].astype(np.float64)
        if self.quantity == "pole":
            with np.errstate(over="ignore"):
                poles = np.exp(mu).astype(rounded_type(self.dtype)).astype(np.float64)
            largest, what = float(np.max(poles)), f"largest pole, rounded to {self.dtype}"
        else:
            drive = self.layer.map(lambda x: to_numpy(double(x))).core_input(np.asarray(self.u, dtype=np.float64))[..., 0]
            b = along.B[..., 0][channel] * drive[(slice(None), *self.index[:-1])]
            h, sizes = 0.0, []
            for pole, x in zip(np.exp(mu), b, strict=True):
                h = pole * h + x
                sizes.append(abs(h))
            largest, what = float(np.max(sizes)), "largest |h|"
        return Replay(
            violated=largest >= self.limit, measured=largest, limit=self.limit, what=what, implementation="numpy, along the input"
        )

    def describe(self) -> str:
        """Return one line of text."""
        return f"{len(self.u)} tokens of input for which the {self.quantity} of channel {self.index} reaches {self.limit:.6g}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Frequency(Witness):
    """A frequency at which the gain is above the limit: D + C (z - A)^{-1} B with the largest singular value."""

    A: np.ndarray
    B: np.ndarray
    C: np.ndarray
    D: np.ndarray
    theta: float
    limit: float
    log_poles: bool
    """Whether A is a vector of log-poles instead of a matrix."""

    kind: ClassVar[str] = "frequency"

    def replay(self) -> Replay:
        """Measure, in mpmath, |G v| for the unit vector v that is the first right singular vector in double precision."""
        import mpmath

        with mpmath.workdps(DIGITS):
            z = mpmath.expj(mpmath.mpf(self.theta))
            B, C, D = (mpmath.matrix(np.asarray(x).tolist()) for x in (self.B, self.C, self.D))
            if self.log_poles:
                resolvent = mpmath.diag([1 / (z - mpmath.exp(mpmath.mpmathify(complex(mu)))) for mu in self.A])
                G = D + C * (resolvent * B)
            else:
                G = D + C * (mpmath.inverse(z * mpmath.eye(len(self.A)) - mpmath.matrix(self.A.tolist())) * B)
            numbers = np.array([[complex(G[i, j]) for j in range(G.cols)] for i in range(G.rows)])
            v = mpmath.matrix(np.linalg.svd(numbers)[2][0].conj().tolist())
            gain = mpmath.norm(G * v) / mpmath.norm(v)
            return Replay(violated=bool(gain > self.limit), measured=float(gain), limit=self.limit, what="gain", implementation="mpmath")

    def describe(self) -> str:
        """Return one line of text."""
        return f"at {self.theta:.9g} rad/token the gain exceeds {self.limit:.9g}"


@dataclass(frozen=True, eq=False, kw_only=True)
class WorstInput(Witness):
    """An input of size at most 1 whose last output is above the limit.

    Parameters
    ----------
    subject
        The system.
    u
        The input, (L, m).
    limit
        What |y| must stay below.
    """

    subject: Any
    u: np.ndarray
    limit: float

    kind: ClassVar[str] = "worst input"

    def replay(self) -> Replay:
        """Return the recurrence step by step in numpy; the limit is to be exceeded by more than its rounding."""
        sys = self.subject.map(lambda x: to_numpy(double(x))).to_dense()
        x, y = np.zeros(sys.nstates, dtype=np.result_type(sys.A, 1.0)), np.zeros(sys.noutputs)
        for u in self.u:
            y, x = sys.C @ x + sys.D @ u, sys.A @ x + sys.B @ u
        largest = float(np.max(np.abs(y)))
        return Replay(violated=largest > self.limit, measured=largest, limit=self.limit, what="|y|", implementation="numpy, step by step")

    def describe(self) -> str:
        """Return one line of text."""
        return f"{len(self.u)} inputs of size 1 whose last output exceeds {self.limit:.9g}"


def rounded_once(x: Fraction, dtype: str) -> Fraction:
    """Return the nearest number of a type, of two the even one, from the exact number: rounding to another type on the way would not be
    this."""
    if x == 0:
        return x
    bits, smallest = PRECISION[dtype]
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    exponent -= abs(x) < Fraction(2) ** exponent
    spacing = Fraction(2) ** (max(exponent, smallest) - bits + 1)
    return round(x / spacing) * spacing


LARGEST = Fraction(float(np.finfo(np.float64).max))
PRECISION = {"fp32": (24, -126), "bf16": (8, -126), "fp16": (11, -14)}
"""Bits of precision, and exponent of the smallest normal number."""


def rounded_type(dtype: str) -> Any:
    """Return numpy's type of fp16, fp32 and fp64; ml_dtypes' of bf16."""
    if dtype == "bf16":
        import ml_dtypes

        return ml_dtypes.bfloat16
    return {"fp16": np.float16, "fp32": np.float32, "fp64": np.float64}[dtype]
