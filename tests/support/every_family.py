"""The families by kind, as they are discovered, and a look into tables of tests that must have a row for each of them."""

from collections.abc import Mapping
from typing import TypeVar

from ssm_analysis import FAMILIES
from ssm_analysis.families import SelectiveFamily

Row = TypeVar("Row")

EVERY_FAMILY = tuple(FAMILIES)
SELECTIVE_FAMILIES = tuple(name for name in EVERY_FAMILY if isinstance(FAMILIES[name], SelectiveFamily))
TIME_INVARIANT_FAMILIES = tuple(name for name in EVERY_FAMILY if name not in SELECTIVE_FAMILIES)


def row_of(table: Mapping[str, Row], family: str, where: str) -> Row:
    """Return the row of a family, or fail with the place where it must be added."""
    assert family in table, f"no row for family {family!r}; add one to {where}"
    return table[family]
