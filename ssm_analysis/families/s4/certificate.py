r"""S4 for every input: from the stored Lambda and P, never from the rounded A.

With Q = P and positive rates and steps A = Lambda - P P^* is dissipative, so the bilinear rule makes a contraction of it:

    ||A_d||^2 <= 1 - 2 delta m / (1 + delta ||A|| / 2)^2,   m = min(-Re Lambda).

Where the signs say nothing, the eigenvalues of the stored matrix are enclosed in balls.
"""

import math
from collections.abc import Iterator

import numpy as np

from ssm_analysis.analyses.spectrum.extended_precision import EnclosedEigenvalues
from ssm_analysis.certificates.certificate import Certificate
from ssm_analysis.certificates.dense import BALL_STATES, UNIT, Circle
from ssm_analysis.certificates.full import bound_answers, stability_answers
from ssm_analysis.certificates.gains import with_gain_answers
from ssm_analysis.certificates.question import Inquiry, listed
from ssm_analysis.certificates.rounding import above
from ssm_analysis.certificates.witness import Eigenvalue
from ssm_analysis.families.s4.spectrum import enclosed_eigenvalues
from ssm_analysis.families.shared.enclosed_transforms import enclosed_transform, transform_sign
from ssm_analysis.families.shared.transforms import exact_transform
from ssm_analysis.systems import StateSpace
from ssm_analysis.xp import double, to_numpy

COVERED = ("dt_transform", "real_transform", "imag_transform", "conj_sym", "strictly_causal")
"""Options that the theorems cover."""


def certify(inquiry: Inquiry) -> Iterator[Certificate]:
    """Yield the certificates of an S4 layer."""
    uncovered = inquiry.uncovered_options(COVERED)
    if uncovered:
        return inquiry.all_undecided(f"the options {listed(uncovered)} of S4 are not covered by a theorem here")
    sys = inquiry.layer.system()
    assert isinstance(sys, StateSpace)
    return with_gain_answers(inquiry, sys, dplr_answers(inquiry, sys))


def dplr_answers(inquiry: Inquiry, sys: StateSpace) -> Iterator[Certificate]:
    """Yield the certificates of an S4 layer except those about its gains."""
    sys = sys.map(lambda x: to_numpy(double(x)))
    entries = list(np.ndindex(sys.batch_shape))
    found = contraction(inquiry)
    if found is None:
        found = _enclosed(inquiry)
    witnesses = {i: Eigenvalue(A=sys.A[i], value=f.value, margin=f.radius[0] - 1, index=i) for i, f in zip(entries, found, strict=True)}
    yield from stability_answers(inquiry, found, witnesses, entries, assumed=inquiry.assumed)
    if all(f.theorem == "DPLR" for f in found):
        norm = "the norm is x^* diag(1/delta) x, with a step of its own for each state" if inquiry.params()["inv_dt"].shape[1] > 1 else ""
        assumed = (*inquiry.assumed, *([norm] if norm else []))
        yield inquiry.answer("non_expansive", "proved", theorem="DPLR", rigor="exact", assumptions=assumed)
    else:
        yield inquiry.undecided(
            "non_expansive",
            "Q is not P, or some -Re Lambda or step is not positive: the theorem on dissipative matrices is silent",
        )
    yield from bound_answers(inquiry, sys, found)
    for dtype in inquiry.dtypes:
        reason = "S4 runs as a convolution, or with a matrix that its code forms in the type: which one is rounded is not stored"
        yield inquiry.undecided(
            f"pole_inside:{dtype}", f"{reason}; verify(layer.system()) answers for the exported matrix rounded entry by entry"
        )
        yield inquiry.undecided(f"no_overflow:{dtype}", reason)


def contraction(inquiry: Inquiry) -> list[Circle] | None:
    """Bound ||A_d||^2 <= 1 - 2 delta m / (1 + delta ||A||/2)^2 for each feature; return None unless Q = P and all signs are right."""
    p, options = inquiry.params(), inquiry.layer.options
    real_transform, dt_transform = options.real_transform, options.dt_transform
    if "Q" in p and not np.array_equal(p["Q"], p["P"]):
        return None
    if np.any(transform_sign(real_transform, p["A_real"]) <= 0) or np.any(transform_sign(dt_transform, p["inv_dt"]) <= 0):
        return None
    rate, frequency = enclosed_transform(real_transform, p["A_real"]), enclosed_transform(options.imag_transform, p["A_imag"])
    delta = enclosed_transform(dt_transform, p["inv_dt"])
    (H, k), S = p["inv_dt"].shape, p["A_real"].shape[0]
    size = np.max(np.sqrt(above(rate.size() ** 2 + frequency.size() ** 2, 4)), axis=-1) * (1 + 4 * UNIT)
    low_rank = np.sum(2 * np.sum(np.abs(p["P"]) ** 2, axis=-1), axis=0)  # both halves of each pair
    norm, slowest = above(size + low_rank, p["P"].size + 8), np.min(rate.lo, axis=-1)
    out = []
    for h in range(H):
        if k > 1:  # the statement holds in the norm of 1/delta; its rate is not worked out
            out.append(Circle(verdict="proved", theorem="DPLR", rigor="exact", radius=(0.0, 1.0)))
            continue
        step, m = delta[h, 0], slowest[h % S]
        loss = 2 * step.lo * m / (1 + step.hi * norm[h % S] / 2) ** 2 * (1 - 16 * UNIT)
        radius = math.sqrt(max(0.0, 1 - float(loss))) * (1 + 4 * UNIT)
        out.append(Circle(verdict="proved", theorem="DPLR", rigor="exact", radius=(0.0, min(radius, 1.0)), overshoot=1.0))
    return out


def _enclosed(inquiry: Inquiry) -> list[Circle]:
    """Return the circle of each feature from the enclosed eigenvalues of the stored continuous matrix."""
    p, options = inquiry.params(), inquiry.layer.options
    (H, k), n = p["inv_dt"].shape, (2 if options.conj_sym else 1) * p["A_real"].shape[1]
    if n > 2 * BALL_STATES[inquiry.effort]:  # in balls of 256 bits: one matrix often serves many features
        return [
            Circle(verdict="undecided", reason=f"not dissipative, and too many states ({n}) for balls with effort={inquiry.effort!r}")
        ] * H
    eigenvalues = enclosed_eigenvalues(p, options, or_none=True)
    transform = options.dt_transform if k == 1 else "none"
    return [_discretized(found, transform, float(p["inv_dt"][h, 0]) if k == 1 else 1.0) for h, found in enumerate(eigenvalues)]


def _discretized(found: EnclosedEigenvalues | None, transform: str, step: float) -> Circle:
    """Locate the poles (1 + w)/(1 - w), w = delta lambda / 2, relative to the circle: |1 + w|^2 - |1 - w|^2 = 4 Re w."""
    import flint

    if found is None:
        return Circle(verdict="undecided", reason="not dissipative, and the eigenvalues could not be enclosed")
    with flint.ctx.workprec(found.bits):
        half = exact_transform(transform, step) / 2
        w = [half * ball for ball in found.balls]
        if any((1 - x).contains(0) for x in w):
            return Circle(verdict="undecided", reason="delta A / 2 may have the eigenvalue 1, where the discrete matrix does not exist")
        poles = [(1 + x) / (1 - x) for x in w]
        sizes = [(math.nextafter(float(z.abs_lower()), 0.0), math.nextafter(float(z.abs_upper()), math.inf)) for z in poles]
        top = max(range(len(w)), key=lambda i: float(w[i].real.mid()))
        low, high = max(a for a, _ in sizes), max(b for _, b in sizes)
        if w[top].real >= 0:
            value = complex(float(poles[top].real), float(poles[top].imag))
            return Circle(verdict="refuted", theorem="balls", rigor="interval", radius=(max(low, 1.0), high), value=value)
        if all(x.real < 0 for x in w):
            return Circle(verdict="proved", theorem="balls", rigor="interval", radius=(min(low, 1.0), min(high, 1.0)))
    return Circle(
        verdict="undecided", radius=(low, high), reason="not dissipative, and an eigenvalue could not be told from the imaginary axis"
    )
