"""The options of families: frozen dataclasses that check their values, and the checks that they share."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TypeGuard


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """The options of a family whose tensors tell everything."""


def check_flag(name: str, value: object) -> None:
    """Raise a ValueError unless the option is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_count(name: str, value: object, *, unit: str = "") -> None:
    """Raise a ValueError unless the option is a positive whole number."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive whole number{unit}, got {value!r}")


def check_number(name: str, value: object, *, low: float = -math.inf, words: str = "a finite number") -> None:
    """Raise a ValueError unless the option is a finite number from ``low`` on; ``words`` say so."""
    if not is_number(value) or not low <= float(value) < math.inf or float(value) == -math.inf:
        raise ValueError(f"{name} must be {words}, got {value!r}")


def is_number(value: object) -> TypeGuard[Real]:
    """Return whether the value is a real number and not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
