"""What a verification answers: one property, one verdict, the theorem behind it and the numbers that it rests on."""

import builtins
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

import numpy as np

from ssm_analysis.certificates.subject import RecurrentLayer
from ssm_analysis.certificates.theorems import THEOREMS
from ssm_analysis.certificates.witness import Witness
from ssm_analysis.systems import LTI
from ssm_analysis.systems.base import System
from ssm_analysis.xp import double, to_numpy

VERDICTS = ("proved", "refuted", "undecided", "invalid")
INPUT_BOUND = "input bound"
"""A need: a norm in front of the layer, or a bound of its input."""
RIGORS = ("exact", "interval", "float with counted rounding", "none")
"""Sign tests and rational numbers; balls of python-flint; double precision with a bound of all its rounding; nothing was computed."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number between two bounds.

    Parameters
    ----------
    lower
        Attained by an example that was computed, or proved; the trivial bound (0 for a magnitude) where none was looked for.
    upper
        Proved, rounding included; infinite where there is none.
    unit
        In words.
    """

    lower: float
    upper: float
    unit: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    """One property of one layer or system.

    Parameters
    ----------
    subject
        Name of the layer, or what the system is.
    property
        ``asymptotic_stability``, ``uniform_exponential_stability``, ``non_expansive``, ``bounded_state``, ``bounded_output``,
        ``no_overflow:<dtype>``, ``pole_inside:<dtype>``, ``hinf_below`` or ``l1_below``.
    verdict
        ``proved`` by a theorem whose hypotheses were checked, ``refuted`` by a witness that replays, ``undecided`` for a reason,
        or ``invalid`` where the question makes no sense (NaN or infinite parameters).
    theorem
        Key in ``THEOREMS``; empty where none was used.
    quantities
        Two-sided numbers by name.
    assumptions
        What the verdict takes for granted.
    reason
        What stands in the way of a decision, and what would help; empty for decided properties.
    cause
        Key of the reason or witness, shared by certificates that differ in their numbers alone; by default the reason, or the kind of
        the witness.
    needs
        What would help to decide, for programs: ``INPUT_BOUND``.
    rigor
        How exact the arithmetic was, one of ``RIGORS``.
    witness
        The example that refutes; None for every other verdict.
    per_channel
        Arrays over the channels (or batch entries) by name.
    cost_s
        Seconds that it took.
    sha256
        Fingerprint of the parameters, their names, shapes and types.
    """

    subject: str
    property: str
    verdict: str
    theorem: str = ""
    quantities: Mapping[str, Quantity] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    reason: str = ""
    rigor: str = "none"
    cause: str = ""
    needs: frozenset[str] = frozenset()
    witness: Witness | None = None
    per_channel: Mapping[str, np.ndarray] = field(default_factory=dict)
    cost_s: float = 0.0
    sha256: str = ""

    def __post_init__(self) -> None:
        assert self.verdict in VERDICTS
        assert self.rigor in RIGORS
        assert (self.witness is not None) == (self.verdict == "refuted")
        assert bool(self.reason) == (self.verdict in ("undecided", "invalid"))
        assert not self.theorem or self.theorem in THEOREMS
        for name in ("quantities", "per_channel"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not self.cause:
            object.__setattr__(self, "cause", self.reason if self.witness is None else self.witness.kind)

    @builtins.property  # a field bears the plain name
    def numbers(self) -> str:
        """The first of the quantities in words; empty where there is none."""
        return next((sentence(name, value) for name, value in self.quantities.items()), "")

    @builtins.property  # a field bears the plain name
    def headline(self) -> str:
        """One line: the verdict, the property and its first number."""
        return ": ".join(part for part in (f"{self.verdict} {self.property}", self.numbers) if part)

    @builtins.property  # a field bears the plain name
    def explanation(self) -> str:
        """Return what refutes, or why nothing is decided; empty for a proof."""
        return self.witness.describe() if self.witness is not None else self.reason

    def __str__(self) -> str:
        return "\n".join(line for line in (self.headline, self.explanation) if line)

    def __repr__(self) -> str:
        return f"<Certificate {self.subject!r}: {self.headline}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what travels to other processes: all but the views that keep the mappings from being changed."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return _certificate_of, (values | {"quantities": dict(self.quantities), "per_channel": dict(self.per_channel)},)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, texts, lists and dictionaries; infinities as texts, as JSON has none."""
        return {
            "subject": self.subject,
            "property": self.property,
            "verdict": self.verdict,
            "theorem": self.theorem,
            "rigor": self.rigor,
            "reason": self.reason,
            "needs": sorted(self.needs),
            "quantities": {k: {"lower": _plain(q.lower), "upper": _plain(q.upper), "unit": q.unit} for k, q in self.quantities.items()},
            "assumptions": list(self.assumptions),
            "witness": None if self.witness is None else self.witness.to_dict(),
            "per_channel": {name: _plain(x) for name, x in self.per_channel.items()},
            "cost_s": self.cost_s,
            "sha256": self.sha256,
        }

    def to_json(self, *, indent: int | None = None) -> str:
        """Return `to_dict` as a JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def explain(self) -> str:
        """Return a page of text: the verdict, the theorem and what it does not say, the numbers, the assumptions, the witness."""
        lines = [self.headline, f"of {self.subject}", ""]
        if self.theorem:
            theorem = THEOREMS[self.theorem]
            lines += [f"Theorem {theorem.key}. {theorem.statement}", f"Hypotheses: {theorem.hypotheses}", f"Proof: {theorem.proof}"]
            lines += [f"It does not say: {theorem.silent}", ""]
        if self.reason:
            lines += [f"Why: {self.reason}", ""]
        if self.quantities:
            lines += ["Numbers, each between what was attained and what is proved:"]
            lines += [f"  {sentence(name, value)}" for name, value in self.quantities.items()] + [""]
        for name, values in self.per_channel.items():
            lines += [f"  per channel, {name}: {_summary(values)}"]
        if self.assumptions:
            lines += ["Assumed:"] + [f"  - {text}" for text in self.assumptions]
        if self.witness is not None:
            lines += ["", f"Witness: {self.witness.describe()}", "witness.replay() runs it again in another implementation."]
        lines += ["", f"Arithmetic: {self.rigor}. Cost: {self.cost_s:.3g} s. Parameters: sha256 {self.sha256}"]
        return "\n".join(lines)


def _certificate_of(values: dict[str, Any]) -> Certificate:
    return Certificate(**values)


def sentence(name: str, value: Quantity) -> str:
    """Return a quantity in words; rates come with their half-life."""
    low, high = (f"{x:.6g}" for x in (value.lower, value.upper))
    text = f"{name} = {low}" if value.lower == value.upper else f"{name} in [{low}, {high}]"
    text += f" {value.unit}"
    if value.unit.endswith("per token"):
        text += f", half-life {half_life(value)}"
    return text


def half_life(rate: Quantity) -> str:
    """Return the half-life log(2) / rate in words."""
    longest = math.log(2) / rate.lower if rate.lower > 0 else math.inf
    shortest = math.log(2) / rate.upper if rate.upper > 0 else math.inf
    if math.isinf(longest):
        return (
            "without bound" if math.isinf(shortest) else f"at least {shortest:.3g} tokens, no bound from above" if shortest else "not known"
        )
    return f"at most {longest:.3g} tokens"


def fingerprint(subject: RecurrentLayer | LTI) -> str:
    """Return the sha256 over names, types, shapes and bytes of the parameters, and the options that they are read with."""
    found = hashlib.sha256()
    if not isinstance(subject, System):
        found.update(f"{subject.family} {subject.options!r}".encode())
        arrays = dict(subject.params)
    else:
        found.update(f"{type(subject).__name__} {subject.dt!r}".encode())
        arrays = {name: getattr(subject, name) for name in subject.AXES}
    for name in sorted(arrays):
        x = np.ascontiguousarray(to_numpy(double(arrays[name])))  # exact, and numpy knows no bfloat16
        found.update(f"{name} {str(arrays[name].dtype).removeprefix('torch.')} {x.shape}".encode())
        found.update(x.tobytes())
    return found.hexdigest()


def _plain(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return _plain(x.tolist())
    if isinstance(x, list):
        return [_plain(v) for v in x]
    if isinstance(x, complex):
        return [_plain(x.real), _plain(x.imag)]
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _summary(values: np.ndarray) -> str:
    if values.dtype == bool:
        return f"{int(values.sum())} of {values.size}"
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values) or values.size == 0:
        return f"{values.size} values"
    return f"smallest {np.min(values):.4g}, median {np.median(values):.4g}, largest {np.max(values):.4g}"
