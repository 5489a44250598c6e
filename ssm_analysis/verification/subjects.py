"""Stability proved, refuted with a witness, or honestly undecided: one certificate for each property of a layer or system."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import overload

import numpy as np

from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.formats import FORMATS
from ssm_analysis.certificates.full import dplr_answers, full_answers
from ssm_analysis.certificates.gains import finite, gain_answers
from ssm_analysis.certificates.input_set import LayerNorm, RMSNorm, input_set
from ssm_analysis.certificates.linear import diagonal_answers
from ssm_analysis.certificates.question import EFFORTS, Question, listed, timed
from ssm_analysis.certificates.selective import Ranges, selective_answers
from ssm_analysis.certificates.sign_tests import DECAYS, decay_of_system
from ssm_analysis.families.base import Layer
from ssm_analysis.families.mamba2.certificate import mamba2_ranges
from ssm_analysis.families.rg_lru.certificate import rg_lru_ranges
from ssm_analysis.families.s6.certificate import s6_ranges
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import all_finite

Norm = RMSNorm | LayerNorm
RANGES: dict[str, Callable[[Question], Ranges]] = {"s6": s6_ranges, "mamba2": mamba2_ranges, "rg_lru": rg_lru_ranges}
"""Selective families that theorems here cover, and what computes the ranges of their steps, inputs and states."""
OPTIONS: dict[str, tuple[str, ...]] = {
    "s4": ("dt_transform", "real_transform", "imag_transform", "conj_sym", "strictly_causal"),
    "s4d": ("dt_transform", "real_transform", "imag_transform", "disc", "strictly_causal"),
    "s5": ("discretization", "conj_sym", "clip_eigs", "step_rescale"),
    "lru": (),
    "s6": ("conv_padding", "dt_offset", "mixer_rms_eps", "delta_scale"),
    "mamba2": (
        "n_groups", "d_ssm", "D_has_hdim", "time_step_limit", "ssm_in_multiplier", "ssm_multipliers", "delta_scale",
    ),
    "rg_lru": ("c", "epsilon", "reset_first"),
}  # fmt: skip
"""Options that the theorems here were applied to; a layer with any other is left undecided."""
PROPERTIES = ("asymptotic_stability", "uniform_exponential_stability", "non_expansive", "bounded_state", "bounded_output")


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
    >>> from ssm_analysis.certificates import verify
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
    asked = _asked(question)
    try:
        with np.errstate(all="ignore"):  # an overflow is no bound, and every bound is checked
            found = timed(question, _answers(question))
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:  # finite parameters whose exponentials are not
        found = timed(question, (question.undecided(name, f"the arithmetic does not reach so far: {error}") for name in asked))
    return sorted(found, key=lambda certificate: asked.index(certificate.property))


def _answers(question: Question) -> Iterator[Certificate]:
    bad = _not_finite(question.subject)
    if bad:
        for name in _asked(question):
            yield question.answer(name, "invalid", reason=f"NaN or infinite entries in {listed(bad)}: they define no recurrence")
        return
    subject = question.subject
    if not isinstance(subject, Layer):
        yield from _system_answers(question, subject)
    elif (unknown := _not_covered(subject)) is not None:
        for name in _asked(question):
            yield question.undecided(name, unknown)
    elif subject.family in DECAYS:
        decay = DECAYS[subject.family](subject)
        sys = subject.system()
        assert isinstance(sys, RealDiagonalSSM)
        yield from _with_gains(question, sys, diagonal_answers(question, sys, decay))
    elif subject.family == "s4":
        sys = subject.system()
        assert isinstance(sys, StateSpace)
        yield from _with_gains(question, sys, dplr_answers(question, sys))
    else:
        yield from selective_answers(question, RANGES[subject.family](question))


def _not_covered(layer: Layer) -> str | None:
    """Why no theorem here applies to the layer, if none does."""
    if layer.family not in OPTIONS:
        return f"no theorem here covers the family {layer.family!r}"
    if "a_imag_param" in layer.params:
        return "the complex state of this RG-LRU is not covered by a theorem here"
    options = [name for name in layer.options if name not in OPTIONS[layer.family]]
    return f"the options {listed(options)} of the family {layer.family!r} are not covered by a theorem here" if options else None


def _system_answers(question: Question, sys: LTI) -> Iterator[Certificate]:
    answers = full_answers(question, sys) if isinstance(sys, StateSpace) else diagonal_answers(question, sys, decay_of_system(sys))
    yield from _with_gains(question, sys, answers)


def _with_gains(question: Question, sys: LTI, answers: Iterator[Certificate]) -> Iterator[Certificate]:
    """The answers, the first of which is about asymptotic stability, and those about gains."""
    stability = next(answers)
    assert stability.property == "asymptotic_stability"
    yield stability
    yield from answers
    yield from gain_answers(question, sys, stability)


def _asked(question: Question) -> list[str]:
    gains = [name for name in ("hinf_below", "l1_below") if getattr(question, name) is not None]
    return [*PROPERTIES, *(f"{name}:{dtype}" for dtype in question.dtypes for name in ("pole_inside", "no_overflow")), *gains]


def _not_finite(subject: Layer | LTI) -> list[str]:
    """Names of the arrays with NaN or infinite entries: arrays can change after a layer was made."""
    arrays = dict(subject.params) if isinstance(subject, Layer) else {name: getattr(subject, name) for name in subject.AXES}
    return [name for name, x in arrays.items() if not all_finite(x)]


def _name(subject: Layer | LTI) -> str:
    if isinstance(subject, Layer):
        return f"{subject.family} layer {subject.name!r}" if subject.name else f"a bare {subject.family} layer"
    return repr(subject)


def _width(subject: Layer | LTI) -> int:
    """Features that enter the layer."""
    if not isinstance(subject, Layer):
        return subject.ninputs
    for name, axis in (("in_proj.weight", 1), ("linear_x.weight", 1), ("inv_dt", 0), ("D", -1), ("a_param", 0)):
        if name in subject.params:
            return subject.params[name].shape[axis]
    raise ValueError(f"the width of the input of family {subject.family!r} is not known, so norm and input_radius do not apply")


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
