"""The floating-point types that layers run in, and what rounding to them does to a pole."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from ssm_analysis.certificates.rounding import BITS
from ssm_analysis.certificates.sign_tests import Decay
from ssm_analysis.certificates.witness import Replay, Witness, rounded_once


@dataclass(frozen=True, kw_only=True)
class Format:
    """A binary floating-point type.

    Parameters
    ----------
    unit
        Unit roundoff: the relative error of rounding to nearest.
    largest
        Largest finite number.
    settles
        How large |tau| may be by T6: (1 - 10 u) of the largest number, and half of that where exp may be off by a unit in the last place.
    """

    unit: float
    largest: float
    settles: float


def _format(bits: int, exponent: int, *, exp_is_rounded: bool) -> Format:
    unit = 2.0**-bits
    largest = (1 - unit) * 2.0**exponent * 2
    return Format(unit=unit, largest=largest, settles=largest * (1 - 10 * unit) * (1 if exp_is_rounded else 0.5))


FORMATS = {
    "fp32": _format(24, 127, exp_is_rounded=False),
    "bf16": _format(8, 127, exp_is_rounded=True),
    "fp16": _format(11, 15, exp_is_rounded=True),
}
"""IEEE 754 binary32 and binary16, and bfloat16 (8 bits of precision). Poles of the last two are computed in 32 bits and rounded."""


ALIASES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
"""numpy's names of the formats."""


def format_name(dtype: str) -> str:
    """Return the key in ``FORMATS`` of a type by its short name or by numpy's.

    Raises
    ------
    ValueError
        If there is no such format.
    """
    name = ALIASES.get(dtype, dtype)
    if name not in FORMATS:
        raise ValueError(f"dtypes must be a sequence of {', '.join(FORMATS)}, or of numpy's names {', '.join(ALIASES)}; got {dtype!r}")
    return name


@dataclass(frozen=True, eq=False, kw_only=True)
class RoundedPole(Witness):
    """A pole that lies on or outside the circle once it is rounded."""

    log_pole: complex
    dtype: str
    index: tuple[int, ...]

    kind: ClassVar[str] = "rounded pole"

    def replay(self) -> Replay:
        """Return exp in mpmath, rounded to the type, and its modulus in rational arithmetic."""
        import mpmath
        from mpmath.libmp import to_rational

        with mpmath.workdps(60):
            pole = mpmath.exp(mpmath.mpmathify(self.log_pole))
            exact = [Fraction(*map(int, to_rational(part._mpf_))) for part in (pole.real, pole.imag)]
        parts = [rounded_once(part, self.dtype) for part in exact]
        excess = parts[0] ** 2 + parts[1] ** 2 - 1
        return Replay(
            violated=excess >= 0, measured=float(excess), limit=0.0, what="|rounded pole|^2 - 1", implementation="mpmath and rationals"
        )

    def describe(self) -> str:
        """Return one line of text."""
        return f"pole {self.index} with log(lambda) = {self.log_pole:.6g}, rounded to {self.dtype}, is not inside the circle"


def rounded_modulus_below_one(
    decay: Decay, mu: np.ndarray, dtype: str
) -> tuple[np.ndarray, np.ndarray, Callable[[tuple[int, ...]], RoundedPole]]:
    """Return which poles are inside the circle as rounded, for which that is known, and the witness of one that is not.

    |fl(lambda)| <= |lambda| (1 + u) settles poles further than u from the circle; the others are rounded from balls.
    """
    unit = FORMATS[dtype].unit
    inside = decay.rate.lo > 1.02 * unit  # (1 - r + r^2/2) (1 + u) < 1 for u <= 2^-8 and r > 1.02 u
    decided = inside.copy()
    for index in zip(*np.nonzero(~inside), strict=True):
        excess = _exact_excess(complex(mu[index]), dtype)
        if excess is not None:
            inside[index], decided[index] = excess < 0, True

    def witness(index: tuple[int, ...]) -> RoundedPole:
        return RoundedPole(log_pole=complex(mu[index]), dtype=dtype, index=index)

    return inside, decided, witness


def _exact_excess(mu: complex, dtype: str) -> Fraction | None:
    """Return |fl(exp(mu))|^2 - 1, exactly; None where a ball holds two roundings."""
    import flint

    with flint.ctx.workprec(BITS):
        pole = flint.acb(mu).exp()
        ends = [[rounded_once(_fraction(x), dtype) for x in (part.lower(), part.upper())] for part in (pole.real, pole.imag)]
    if any(low != high for low, high in ends):
        return None
    re, im = ends[0][0], ends[1][0]
    return re * re + im * im - 1


def _fraction(x: Any) -> Fraction:
    """Return the exact number that a ball without radius is."""
    mantissa, exponent = x.man_exp()
    return Fraction(int(mantissa)) * Fraction(2) ** int(exponent)


def pole_range_verdict(slowest_low: float, slowest_high: float, dtype: str) -> str:
    """Tell about real poles exp(-x) with x from ``slowest_low`` on, where an example reaches ``slowest_high``."""
    unit = FORMATS[dtype].unit
    if slowest_low >= 4 * unit:
        return "proved"
    return "refuted" if slowest_high < unit / 2 * (1 - 2.0**-10) else "undecided"
