"""What the weights do not tell: options from the caller, from the files, or from the defaults of the original code."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ssm_analysis.families.base import Assumption
from ssm_analysis.families.shared.layouts import Layout

MOST_VALUES = 100_000
"""Entries of a configuration that are looked at; published ones have a few hundred."""
Sources = Mapping[str, Mapping[str, Any]]
"""Configurations by who gives them, "caller" or "file"; a nested mapping each."""


def settings(layout: Layout, assume: Mapping[str, Any], config: Mapping[str, Any], *, config_from: str) -> dict[str, Assumption]:
    """Return all options of a layout, each with who said so: the caller, else the configuration, else the original code.

    Raises
    ------
    ValueError
        If a value is none that the option may have, or the caller contradicts what the original code hard-wires.
    """
    told, several = _told(layout, config)
    assume = {name: assume[given] for name, names in _names(layout).items() for given in reversed(names) if given in assume}
    result = {name: _fixed(layout, name, value, assume) for name, value in layout.fixed.items()}
    for name, default in layout.options.items():
        value, source, note = default, "original default", several.get(name, "")
        if name in assume:
            value, source = _as_told(assume[name]), "caller"
            if name in told and told[name] != value:
                note = f"the file says {told[name]!r}"
        elif name in told:
            value, source = told[name], config_from
        if name in layout.choices and value not in layout.choices[name] and value != default:
            allowed = ", ".join(map(repr, layout.choices[name]))
            raise ValueError(f"{name} must be one of {allowed}, got {value!r} from the {source}")
        if name in NUMBERS and value is not None and not NUMBERS[name][0](value):
            raise ValueError(f"{name} must be {NUMBERS[name][1]}, got {value!r} from the {source}")
        result[name] = Assumption(value=value, source=source, folded=name in layout.folded, note=note)
    return result


def check_used(assume: Mapping[str, Any], layouts: Iterable[Layout]) -> None:
    """Raise a ValueError that lists what can be assumed if a name of ``assume``, or its value, is used by no layout."""
    layouts = list(layouts)
    usable = {given for layout in layouts for names in _names(layout).values() for given in names}
    unused = [name for name in assume if name not in usable]
    if unused:
        known = ", ".join(sorted({name for layout in layouts for name in layout.options})) or "nothing"
        raise ValueError(f"assume: no layer that was found can use {', '.join(map(repr, unused))}; what can be assumed of them is {known}")
    for name, value in assume.items():
        choices = [layout.choices.get(own) for layout in layouts for own, names in _names(layout).items() if name in names]
        if all(allowed is not None and value not in allowed for allowed in choices):
            values = ", ".join(dict.fromkeys(repr(one) for allowed in choices for one in allowed or ()))
            raise ValueError(f"assume: {name} must be one of {values}, got {value!r}")


def _names(layout: Layout) -> dict[str, tuple[str, ...]]:
    """Return under which names an option can be given, its own first."""
    return {name: (name, *layout.aliases.get(name, ())) for name in (*layout.options, *layout.fixed)}


def _fixed(layout: Layout, name: str, value: Any, assume: Mapping[str, Any]) -> Assumption:
    """Return what the original code hard-wires. Where its own option of that name has no effect (disc of DPLR), neither has the
    caller's."""
    folded, asked = name in layout.folded, assume.get(name, value)
    if asked != value and not folded:
        raise ValueError(f"{layout.title} has {name} = {value!r} for good, got assume={{{name!r}: {asked!r}}}")
    note = "" if asked == value else f"{asked!r} from the caller has no effect here, as in the original code"
    return Assumption(value=value, source="original default", folded=folded, note=note)


def _told(layout: Layout, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return values that a configuration gives, and notes on options for which it gives several."""
    asked_for = {name: names for name, names in _names(layout).items() if name in layout.options and name not in layout.asked}
    found = _values(config, {alias for names in asked_for.values() for alias in names})
    told: dict[str, Any] = {}
    several: dict[str, str] = {}
    for name, aliases in asked_for.items():
        values = [value for alias in aliases for value in found.get(alias, ())]
        different = [value for i, value in enumerate(values) if value not in values[:i]]
        if len(different) == 1:
            told[name] = different[0]
        elif different:
            several[name] = f"the file says {', '.join(map(repr, different))} in different places"
    return told | dict(layout.configured(config)), several


def _values(config: Mapping[str, Any], names: set[str]) -> dict[str, list[Any]]:
    """Return all values under these names anywhere in a nested configuration; null is no value."""
    found: dict[str, list[Any]] = {}
    waiting: list[Any] = [config]
    looked_at = 0
    while waiting and looked_at < MOST_VALUES:
        node = waiting.pop()
        looked_at += 1
        if isinstance(node, Mapping):
            for key, value in node.items():
                if key in names and value is not None and (plain := _plain(value)) is not _STRANGE:
                    found.setdefault(key, []).append(plain)
            waiting += node.values()
        elif isinstance(node, list | tuple):
            waiting += node
    return found


def _as_told(value: Any) -> Any:
    """Return a value of the caller as a file would give it."""
    plain = _plain(value)
    return value if plain is _STRANGE else plain


def _real(x: Any) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and not math.isnan(x)


def _whole(x: Any) -> bool:
    return isinstance(x, int) and not isinstance(x, bool) and x > 0


def _limits(x: Any) -> bool:
    return isinstance(x, list | tuple) and len(x) == 2 and all(map(_real, x)) and 0 <= x[0] <= x[1]


NUMBERS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n_groups": (_whole, "a positive whole number"),
    "d_ssm": (_whole, "a positive whole number"),
    "l_max": (_whole, "a positive whole number of tokens"),
    "step_rescale": (lambda x: _real(x) and 0 < x < math.inf, "a positive number"),
    "bandlimit": (lambda x: _real(x) and x > 0, "a positive number"),
    "mixer_rms_eps": (lambda x: _real(x) and 0 <= x < math.inf, "a number from 0 on"),
    "dt_offset": (lambda x: _real(x) and math.isfinite(x), "a finite number"),
    "time_step_limit": (_limits, "two numbers with 0 <= low <= high"),
}
"""What a number has to be, by the name of its option."""
_STRANGE = object()


def _plain(value: Any) -> Any:
    """Return numbers, strings and lists of them; the infinities that transformers and others write into JSON as words."""
    if isinstance(value, bool | int | float | str):
        return _INFINITIES.get(value, value) if isinstance(value, str) else value
    if isinstance(value, Mapping) and list(value) == ["__float__"]:
        return _INFINITIES.get(value["__float__"], _STRANGE)
    if isinstance(value, list | tuple):
        items = [_plain(item) for item in value]
        return _STRANGE if any(item is _STRANGE for item in items) else tuple(items)
    return _STRANGE


_INFINITIES = {"Infinity": math.inf, "inf": math.inf, "-Infinity": -math.inf, "-inf": -math.inf}
