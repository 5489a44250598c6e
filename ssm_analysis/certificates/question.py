"""What `verify` was asked about one layer or system, and the certificates that answer it."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity, fingerprint
from ssm_analysis.certificates.input_set import InputSet
from ssm_analysis.families.base import Layer
from ssm_analysis.systems import LTI
from ssm_analysis.xp import double, to_numpy

EFFORTS = ("fast", "tight", "witness")
NEEDS_INPUT = "nothing bounds what enters the layer: give norm=RMSNorm(...) or LayerNorm(...), the norm in front of it, or input_radius="


@dataclass(frozen=True, eq=False, kw_only=True)
class Question:
    """One subject and what is asked about it."""

    subject: Layer | LTI
    name: str
    inputs: InputSet | None
    dtypes: tuple[str, ...]
    hinf_below: float | None
    l1_below: float | None
    effort: str
    seed: int

    def answer(self, property: str, verdict: str, **found: Any) -> Certificate:
        """A certificate about this subject; what bounds its input is among the assumptions if it was used."""
        arrays = {name: np.asarray(x) for name, x in found.pop("per_channel", {}).items()}
        return Certificate(subject=self.name, property=property, verdict=verdict, per_channel=arrays, **found)

    def undecided(self, property: str, reason: str, **found: Any) -> Certificate:
        """An undecided certificate."""
        return self.answer(property, "undecided", reason=reason, **found)

    @property
    def assumed(self) -> tuple[str, ...]:
        """What was assumed about the input, and about options that the weights do not store."""
        options = ()
        if isinstance(self.subject, Layer):
            options = tuple(f"{k} = {a.value!r} ({a.source})" for k, a in self.subject.assumptions.items())
        return (*options, *(() if self.inputs is None else (self.inputs.text,)))

    def params(self) -> dict[str, np.ndarray]:
        """The parameters of a layer as doubles: an exact lift."""
        assert isinstance(self.subject, Layer)
        return {name: to_numpy(double(x)) for name, x in self.subject.params.items()}

    def option(self, name: str, default: Any) -> Any:
        """An option of the layer, or its default."""
        assert isinstance(self.subject, Layer)
        return self.subject.options.get(name, default)


def timed(question: Question, answers: Iterator[Certificate]) -> list[Certificate]:
    """The answers with what each cost since the one before."""
    sha, found, last = fingerprint(question.subject), [], time.perf_counter()
    for certificate in answers:
        now = time.perf_counter()
        found.append(replace(certificate, cost_s=now - last, sha256=sha))
        last = now
    return found


def magnitude(upper: Any, *, lower: Any = 0.0, unit: str = "in units of the state") -> Quantity:
    """A number >= 0."""
    return Quantity(lower=float(lower), upper=float(upper), unit=unit)


def first_index(mask: Any) -> tuple[int, ...]:
    """Where the first True is."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def counted_text(mask: Any, what: str) -> str:
    """'3 of 8 channels'."""
    return f"{int(np.sum(mask))} of {np.size(mask)} {what}"


def listed(names: Sequence[str]) -> str:
    """'a, b, c'."""
    return ", ".join(names)
