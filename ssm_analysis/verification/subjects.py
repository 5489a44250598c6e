"""Stability proved, refuted with a witness, or honestly undecided: one certificate for each property of a layer or system."""

from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.formats import FORMATS
from ssm_analysis.certificates.full import full_answers
from ssm_analysis.certificates.gains import finite, with_gain_answers
from ssm_analysis.certificates.input_set import LayerNorm, RMSNorm, input_set
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import EFFORTS, Question, listed, timed
from ssm_analysis.certificates.sign_tests import decay_of_system
from ssm_analysis.families import FAMILIES, Layer
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import all_finite

Norm = RMSNorm | LayerNorm


@overload
def verify(
    subject: Layer | LTI,
    *,
    norm: Norm | None = ...,
    input_radius: float | None = ...,
    hinf_below: float | None = ...,
    l1_below: float | None = ...,
    dtypes: Sequence[str] = ...,
    effort: str = ...,
    seed: int = ...,
) -> list[Certificate]: ...
@overload
def verify(
    subject: Mapping[str, Layer],
    *,
    norm: Norm | Mapping[str, Norm] | None = ...,
    input_radius: float | None = ...,
    hinf_below: float | None = ...,
    l1_below: float | None = ...,
    dtypes: Sequence[str] = ...,
    effort: str = ...,
    seed: int = ...,
) -> dict[str, list[Certificate]]: ...
def verify(
    subject: Layer | LTI | Mapping[str, Layer],
    *,
    norm: Norm | Mapping[str, Norm] | None = None,
    input_radius: float | None = None,
    hinf_below: float | None = None,
    l1_below: float | None = None,
    dtypes: Sequence[str] = ("fp32", "bf16", "fp16"),
    effort: str = "tight",
    seed: int = 0,
) -> list[Certificate] | dict[str, list[Certificate]]:
    """Certificates of stability for what is in memory: a layer, a time-invariant system, or layers by name.

    `ssm_analysis.verify`, which also opens checkpoints, tells what the arguments mean.

    Raises
    ------
    TypeError
        If the subject or a norm is of another type.
    ValueError
        If an option is out of its range.

    Examples
    --------
    >>> from ssm_analysis.verification.subjects import verify
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.asarray([-1e-18]), B=one, C=one, D=0 * one)  # its pole rounds to 1
    >>> {c.property: c.verdict for c in verify(sys, dtypes=["fp32"])}["asymptotic_stability"]
    'proved'
    >>> {c.property: c.verdict for c in verify(sys, dtypes=["fp32"])}["pole_inside:fp32"]
    'refuted'
    """
    _check(hinf_below, l1_below, dtypes, effort)
    if isinstance(subject, Mapping):
        _check_names(subject, norm)
        of = norm.get if isinstance(norm, Mapping) else (lambda name: norm)
        return {
            name: verify(
                layer, norm=of(name), input_radius=None if of(name) is not None else input_radius, hinf_below=hinf_below, l1_below=l1_below,
                dtypes=dtypes, effort=effort, seed=seed,
            )
            for name, layer in subject.items()
        }  # fmt: skip
    if not isinstance(subject, Layer | DiagonalSSM | RealDiagonalSSM | StateSpace):
        raise TypeError(
            f"verify takes a Layer, a DiagonalSSM, RealDiagonalSSM or StateSpace, or a dictionary of layers, got {type(subject).__name__}"
        )
    if not isinstance(subject, Layer) and 0 in subject.batch_shape:
        raise ValueError(f"verify needs at least one system, got an empty batch of shape {subject.batch_shape}")
    if isinstance(norm, Mapping):
        raise TypeError("norm is a dictionary only where the subject is one; give the norm itself")
    inputs = input_set(norm, input_radius, _width(subject)) if norm is not None or input_radius is not None else None
    question = Question(
        subject=subject, name=_name(subject), inputs=inputs, dtypes=tuple(dtypes),
        hinf_below=hinf_below, l1_below=l1_below, effort=effort, seed=seed,
    )  # fmt: skip
    asked = question.properties
    try:
        with np.errstate(all="ignore"):  # an overflow is no bound, and every bound is checked
            found = timed(question, _answers(question))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # finite parameters whose exponentials are not
        found = timed(question, (question.undecided(name, f"the arithmetic does not reach so far: {error}") for name in asked))
    return sorted(found, key=lambda certificate: asked.index(certificate.property))


def _answers(question: Question) -> Iterator[Certificate]:
    bad = _not_finite(question.subject)
    if bad:
        reason = f"NaN or infinite entries in {listed(bad)}: they define no recurrence"
        yield from (question.answer(name, "invalid", reason=reason) for name in question.properties)
        return
    subject = question.subject
    if not isinstance(subject, Layer):
        yield from _system_answers(question, subject)
        return
    family = FAMILIES[subject.family]
    if family.certificate is not None:
        yield from family.certificate(question)
    elif subject.time_varying:
        yield from question.all_undecided(f"no theorem here covers the family {subject.family!r}")
    else:
        yield from _system_answers(question, subject.system())


def _system_answers(question: Question, sys: LTI) -> Iterator[Certificate]:
    """Yield the certificates of a time-invariant system."""
    answers = full_answers(question, sys) if isinstance(sys, StateSpace) else diagonal_answers(question, sys, decay_of_system(sys))
    yield from with_gain_answers(question, sys, answers)


def _not_finite(subject: Layer | LTI) -> list[str]:
    """Names of the arrays with NaN or infinite entries: arrays can change after a layer was made."""
    arrays = dict(subject.params) if isinstance(subject, Layer) else {name: getattr(subject, name) for name in subject.AXES}
    return [name for name, x in arrays.items() if not all_finite(x)]


def _name(subject: Layer | LTI) -> str:
    if isinstance(subject, Layer):
        return f"{subject.family} layer {subject.name!r}" if subject.name else f"a bare {subject.family} layer"
    return repr(subject)


def _width(subject: Layer | LTI) -> int:
    """Return the number of features that enter the layer, or of inputs of the system."""
    if not isinstance(subject, Layer):
        return subject.ninputs
    return FAMILIES[subject.family].facts.width(subject.params, subject.options)


def _check(hinf_below: float | None, l1_below: float | None, dtypes: Sequence[str], effort: str) -> None:
    finite(hinf_below, "hinf_below")
    finite(l1_below, "l1_below")
    unknown = [dtype for dtype in dtypes if dtype not in FORMATS]
    if unknown or isinstance(dtypes, str):
        raise ValueError(f"dtypes must be a sequence of {listed(list(FORMATS))}, got {dtypes!r}")
    if effort not in EFFORTS:
        raise ValueError(f"effort must be one of {listed(EFFORTS)}, got {effort!r}")


def _check_names(layers: Mapping[str, Layer], norm: Norm | Mapping[str, Norm] | None) -> None:
    if isinstance(norm, Mapping):
        unknown = [name for name in norm if name not in layers]
        if unknown:
            raise ValueError(f"norm names layers that there are not: {listed(unknown)}; there are {listed(list(layers))}")
