"""Certificates of one layer or system: its family's theorems, or those about its system."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.full import full_answers
from ssm_analysis.certificates.gains import with_gain_answers
from ssm_analysis.certificates.input_set import LayerNorm, RMSNorm, input_set
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import Inquiry, Question, listed, timed
from ssm_analysis.certificates.sign_tests import decay_of_system
from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.systems import LTI, StateSpace
from ssm_analysis.xp import all_finite

Norm = RMSNorm | LayerNorm


def certify(
    subject: Layer | LTI, question: Question, *, norm: Norm | None = None, input_radius: float | None = None, norm_place: str = ""
) -> list[Certificate]:
    """Answer a question about one layer or system; ``norm_place`` says where in a checkpoint its norm stands."""
    if not isinstance(subject, Layer) and 0 in subject.batch_shape:
        raise ValueError(f"verify needs at least one system, got an empty batch of shape {subject.batch_shape}")
    bounded = norm is not None or input_radius is not None
    inputs = input_set(norm, input_radius, input_width(subject), place=norm_place) if bounded else None
    inquiry = Inquiry(question=question, subject=subject, name=_name(subject), inputs=inputs)
    try:
        with np.errstate(all="ignore"):  # an overflow is no bound, and every bound is checked
            certificates = timed(inquiry, _answers(inquiry, subject))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # finite parameters whose exponentials are not
        certificates = timed(inquiry, inquiry.all_undecided(f"the arithmetic does not reach so far: {error}"))
    return sorted(certificates, key=lambda certificate: question.properties.index(certificate.property))


def input_width(subject: Layer | LTI) -> int:
    """Return the number of features that enter the layer, or of inputs of the system."""
    if not isinstance(subject, Layer):
        return subject.ninputs
    return FAMILIES[subject.family].facts.width(subject.params, subject.options)


def _answers(inquiry: Inquiry, subject: Layer | LTI) -> Iterator[Certificate]:
    bad = _not_finite(subject)
    if bad:
        reason = f"NaN or infinite entries in {listed(bad)}: they define no recurrence"
        return (inquiry.answer(name, "invalid", reason=reason) for name in inquiry.question.properties)
    if not isinstance(subject, Layer):
        return _system_answers(inquiry, subject)
    family = FAMILIES[subject.family]
    if family.certificate is not None:
        return family.certificate(inquiry)
    if subject.time_varying:
        return inquiry.all_undecided(f"no theorem here covers the family {subject.family!r}")
    return _system_answers(inquiry, subject.system())


def _system_answers(inquiry: Inquiry, sys: LTI) -> Iterator[Certificate]:
    """Yield the certificates of a time-invariant system."""
    answers = full_answers(inquiry, sys) if isinstance(sys, StateSpace) else diagonal_answers(inquiry, sys, decay_of_system(sys))
    return with_gain_answers(inquiry, sys, answers)


def _not_finite(subject: Layer | LTI) -> list[str]:
    """Return the names of the arrays with NaN or infinite entries: arrays can change after a layer was made."""
    arrays = dict(subject.params) if isinstance(subject, Layer) else {name: getattr(subject, name) for name in subject.AXES}
    return [name for name, x in arrays.items() if not all_finite(x)]


def _name(subject: Layer | LTI) -> str:
    if isinstance(subject, Layer):
        return f"{subject.family} layer {subject.name!r}" if subject.name else f"a bare {subject.family} layer"
    return repr(subject)
