"""The model classes of the literature, one file each.

A file in this folder that defines ``FAMILY`` is a family; nothing is registered anywhere else.
"""

from importlib import import_module
from pkgutil import iter_modules

from ssm_analysis.families.base import Family
from ssm_analysis.families.base import Features as Features
from ssm_analysis.families.base import SelectiveFamily as SelectiveFamily
from ssm_analysis.families.base import TimeInvariantFamily as TimeInvariantFamily

PAPER = ("s4", "s4d", "s5", "lru", "s6", "rg_lru")
"""The families of the paper's Table 1, in its order; others follow in alphabetical order."""


class _Families(dict[str, Family]):
    """A dictionary whose KeyError lists what there is."""

    def __missing__(self, name: str) -> Family:
        raise KeyError(f"unknown family {name!r}; there are {', '.join(self)}")


def _discover() -> _Families:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = {module.FAMILY.name: module.FAMILY for module in modules if hasattr(module, "FAMILY")}
    rank = {name: i for i, name in enumerate(PAPER)}
    return _Families({name: found[name] for name in sorted(found, key=lambda name: (rank.get(name, len(rank)), name))})


FAMILIES: dict[str, Family] = _discover()
