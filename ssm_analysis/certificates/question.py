"""What `verify` was asked about one layer or system, and the certificates that answer it."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity, fingerprint
from ssm_analysis.certificates.formats import FORMATS, format_name
from ssm_analysis.certificates.input_set import InputSet
from ssm_analysis.certificates.subject import RecurrentLayer, is_layer
from ssm_analysis.systems import LTI
from ssm_analysis.xp import double, to_numpy

PROPERTIES = ("asymptotic_stability", "uniform_exponential_stability", "non_expansive", "bounded_state", "bounded_output")
"""What is asked of every subject."""
DTYPES = ("fp32", "bf16", "fp16")
"""Types that a layer is asked about by default."""
EFFORTS = ("fast", "tight", "witness")
NEEDS_INPUT = "nothing bounds what enters the layer: give norm=RMSNorm(...) or LayerNorm(...), the norm in front of it, or input_radius="


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of every subject, and how hard to try; `verify` says what the fields mean.

    Raises
    ------
    ValueError
        If a field is out of its range.
    """

    hinf_below: float | None = None
    l1_below: float | None = None
    dtypes: Sequence[str] = DTYPES
    effort: str = "tight"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("hinf_below", "l1_below"):
            gain = getattr(self, name)
            if gain is not None and not (isinstance(gain, int | float) and 0 < gain < math.inf):
                raise ValueError(f"{name} must be a positive number, the gain to stay below, got {gain!r}")
        if isinstance(self.dtypes, str):
            raise ValueError(f"dtypes must be a sequence of {listed(list(FORMATS))}, got {self.dtypes!r}")
        object.__setattr__(self, "dtypes", tuple(format_name(dtype) for dtype in self.dtypes))
        if self.effort not in EFFORTS:
            raise ValueError(f"effort must be one of {listed(EFFORTS)}, got {self.effort!r}")

    @property
    def properties(self) -> tuple[str, ...]:
        """Names of the properties that are asked for, in the order of the answers."""
        executed = [f"{name}:{dtype}" for dtype in self.dtypes for name in ("pole_inside", "no_overflow")]
        gains = [name for name in ("hinf_below", "l1_below") if getattr(self, name) is not None]
        return (*PROPERTIES, *executed, *gains)


@dataclass(frozen=True, eq=False, kw_only=True)
class Inquiry:
    """One question about one subject.

    Parameters
    ----------
    question
        What is asked.
    subject
        A layer, or a system or batch of them.
    name
        The subject in words.
    inputs
        What can enter it; None where nothing bounds the input.
    """

    question: Question
    subject: RecurrentLayer | LTI
    name: str
    inputs: InputSet | None

    @property
    def dtypes(self) -> Sequence[str]:
        """Types that the subject is executed in."""
        return self.question.dtypes

    @property
    def effort(self) -> str:
        """Return how hard to try."""
        return self.question.effort

    def answer(self, property: str, verdict: str, **found: Any) -> Certificate:
        """Return a certificate about this subject; what bounds its input is among the assumptions if it was used."""
        arrays = {name: np.asarray(x) for name, x in found.pop("per_channel", {}).items()}
        return Certificate(subject=self.name, property=property, verdict=verdict, per_channel=arrays, **found)

    def undecided(self, property: str, reason: str, **found: Any) -> Certificate:
        """Return an undecided certificate."""
        return self.answer(property, "undecided", reason=reason, **found)

    @property
    def assumed(self) -> tuple[str, ...]:
        """Return what was assumed about the input, and about options that the weights do not store."""
        options = ()
        if is_layer(self.subject):
            options = tuple(f"{k} = {a.value!r} ({a.source})" for k, a in self.subject.assumptions.items())
        return (*options, *(() if self.inputs is None else (self.inputs.text,)))

    @property
    def layer(self) -> RecurrentLayer:
        """The subject of a question about a layer."""
        assert is_layer(self.subject)
        return self.subject

    def params(self) -> dict[str, np.ndarray]:
        """Return the parameters of the layer as doubles, an exact lift."""
        return {name: to_numpy(double(x)) for name, x in self.layer.params.items()}

    def lifted_layer(self) -> RecurrentLayer:
        """Return the layer with its parameters in numpy, as doubles."""
        return self.layer.map(lambda x: to_numpy(double(x)))

    def uncovered_options(self, covered: Sequence[str]) -> list[str]:
        """Return the options that differ from their defaults and that a theorem was not written for."""
        options = self.layer.options
        return [f.name for f in fields(options) if f.name not in covered and getattr(options, f.name) != f.default]

    def all_undecided(self, reason: str) -> Iterator[Certificate]:
        """Yield an undecided certificate for every property."""
        return (self.undecided(name, reason) for name in self.question.properties)


def timed(inquiry: Inquiry, answers: Iterator[Certificate]) -> list[Certificate]:
    """Return the answers with what each cost since the one before."""
    sha, found, last = fingerprint(inquiry.subject), [], time.perf_counter()
    for certificate in answers:
        now = time.perf_counter()
        found.append(replace(certificate, cost_s=now - last, sha256=sha))
        last = now
    return found


def magnitude(upper: Any, *, lower: Any = 0.0, unit: str = "in units of the state") -> Quantity:
    """Return a number >= 0."""
    return Quantity(lower=float(lower), upper=float(upper), unit=unit)


def first_index(mask: Any) -> tuple[int, ...]:
    """Return where the first True is."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def counted_text(mask: Any, what: str) -> str:
    """Return '3 of 8 channels'."""
    return f"{int(np.sum(mask))} of {np.size(mask)} {what}"


def listed(names: Sequence[str]) -> str:
    """Return 'a, b, c'."""
    return ", ".join(names)
