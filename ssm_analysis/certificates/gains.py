"""Two questions with a number: is the H-infinity norm, or the l1 norm, below it?"""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.analyses.norms.l1 import l1_bounds
from ssm_analysis.analyses.norms.peak_search import peak_angle
from ssm_analysis.analyses.norms.system_norms import Bounds, hinf_bounds
from ssm_analysis.analyses.responses.kernels import kernel
from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.question import Inquiry, first_index
from ssm_analysis.certificates.witness import Frequency, Witness, WorstInput
from ssm_analysis.systems import LTI, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import in_double
from ssm_analysis.xp import to_numpy

LONGEST = 2**16
"""Longest input that is written out as a witness, in tokens."""
NUMERICAL = "B, C, D and the poles are those of the exported system, in 64 bits"


def gain_answers(inquiry: Inquiry, sys: LTI, stability: Certificate) -> Iterator[Certificate]:
    """Yield ``hinf_below`` and ``l1_below`` where a number was given; both norms are infinite by definition where a system is not
    stable."""
    sys = in_double(sys).map(to_numpy)
    for name, limit in (("hinf_below", inquiry.question.hinf_below), ("l1_below", inquiry.question.l1_below)):
        if limit is None:
            continue
        if stability.verdict == "refuted":
            known = {"theorem": stability.theorem, "rigor": stability.rigor, "witness": stability.witness}
            yield inquiry.answer(name, "refuted", assumptions=inquiry.assumed, **known)
        elif stability.verdict != "proved":
            yield inquiry.undecided(name, "the norm is infinite where a system is not stable, and this one is not proved stable")
        elif name == "hinf_below":
            yield _verdict(inquiry, name, limit, sys, hinf_bounds(sys), "branch and bound")
        elif isinstance(sys, StateSpace):
            yield inquiry.undecided(name, "no useful bound of the rounding in the powers of a full matrix is known here")
        else:
            yield _verdict(inquiry, name, limit, sys, l1_bounds(sys, max_length=2**20), "truncated sum")


def _verdict(inquiry: Inquiry, name: str, limit: float, sys: LTI, bounds: Bounds, theorem: str) -> Certificate:
    low, high = to_numpy(bounds.lower), to_numpy(bounds.upper)
    known = {
        "theorem": theorem,
        "rigor": "float with counted rounding",
        "assumptions": (*inquiry.assumed, NUMERICAL),
        "quantities": {"norm": Quantity(lower=float(np.max(low)), upper=float(np.max(high)), unit=f"(limit {limit:g})")},
        "per_channel": {"lower": low, "upper": high},
    }
    if np.all(high < limit):
        return inquiry.answer(name, "proved", **known)
    if np.any(low >= limit):
        index = first_index(low >= limit)
        witness = _frequency(sys[index], limit) if name == "hinf_below" else _worst_input(sys[index], limit)
        if witness is not None:
            return inquiry.answer(name, "refuted", witness=witness, **known)
        return inquiry.undecided(
            name,
            f"the lower bound is above the limit, but no witness of up to {LONGEST} tokens replays",
            cause="no witness replays",
            **known,
        )
    return inquiry.undecided(
        name,
        f"the limit {limit:g} lies between the bounds {float(np.max(low)):.9g} and {float(np.max(high)):.9g}",
        cause="limit between bounds",
        **known,
    )


def _frequency(sys: LTI, limit: float) -> Witness | None:
    whole = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    theta = float(to_numpy(peak_angle(whole[None]))[0])
    A = whole.A if isinstance(whole, StateSpace) else whole.log_poles
    witness = Frequency(A=A, B=whole.B, C=whole.C, D=whole.D, theta=theta, limit=limit, log_poles=not isinstance(whole, StateSpace))
    return witness if witness.replay().violated else None


def _worst_input(sys: LTI, limit: float) -> Witness | None:
    """Return u[L - k] = conj(sign h[k]) for the output with the largest sum, over growing lengths."""
    length = 64
    while length <= LONGEST:
        h = np.asarray(kernel(sys, length))  # (length, p, m)
        row = int(np.argmax(np.sum(np.abs(h), axis=(0, 2))))
        u = h[::-1, row, :]
        size = np.abs(u)
        u = np.conj(u) / np.where(size > 0, size, 1.0)
        if float(np.sum(size)) > limit:
            witness = WorstInput(subject=sys, u=np.real(u) if isinstance(sys, RealDiagonalSSM) else u, limit=limit)
            return witness if witness.replay().violated else None
        length *= 4
    return None


def with_gain_answers(inquiry: Inquiry, sys: LTI, answers: Iterator[Certificate]) -> Iterator[Certificate]:
    """Yield the answers about a time-invariant system, the first of which is about asymptotic stability, and those about its gains."""
    stability = next(answers)
    assert stability.property == "asymptotic_stability"
    yield stability
    yield from answers
    yield from gain_answers(inquiry, sys, stability)
