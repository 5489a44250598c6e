"""Time-invariant systems with a full matrix."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ssm_analysis.certificates.certificate import Certificate, Quantity
from ssm_analysis.certificates.dense import UNIT, Circle, circle
from ssm_analysis.certificates.question import Inquiry, counted_text, first_index, magnitude
from ssm_analysis.certificates.rounding import Numbers, above, row_norms
from ssm_analysis.certificates.subject import is_layer
from ssm_analysis.certificates.witness import Eigenvalue, Stretch, rounded_type
from ssm_analysis.systems import StateSpace
from ssm_analysis.xp import double, to_numpy

OF_SYSTEM = "A, B, C and D are those of the exported system, in 64 bits"


def full_answers(inquiry: Inquiry, sys: StateSpace) -> Iterator[Certificate]:
    """Yield all properties of a batch of full systems but the two gains."""
    sys = sys.map(lambda x: to_numpy(double(x)))
    entries = list(np.ndindex(sys.batch_shape))
    found = [circle(sys.A[i], effort=inquiry.effort) for i in entries]
    witnesses = {i: Eigenvalue(A=sys.A[i], value=f.value, margin=f.radius[0] - 1, index=i) for i, f in zip(entries, found, strict=True)}
    yield from stability_answers(inquiry, found, witnesses, entries, assumed=inquiry.assumed)
    yield _non_expansive(inquiry, sys, entries)
    yield from bound_answers(inquiry, sys, found)
    for dtype in inquiry.dtypes:
        yield _rounded_entries(inquiry, sys, entries, dtype)
        yield inquiry.undecided(
            f"no_overflow:{dtype}", "rounding a full matrix-vector product at every step is not covered by a theorem here"
        )


def stability_answers(
    inquiry: Inquiry, found: Sequence[Circle], witnesses: dict, entries: list[tuple[int, ...]], *, assumed: tuple[str, ...]
) -> Iterator[Certificate]:
    """Yield the two certificates of stability from where the eigenvalues of each entry of the batch lie."""
    verdicts = [f.verdict for f in found]
    worst = max(
        range(len(found)), key=lambda i: (("proved", "undecided", "refuted").index(verdicts[i]), found[i].radius[0], found[i].radius[1])
    )
    low, high = (max(f.radius[j] for f in found) for j in (0, 1))
    known = {
        "rigor": found[worst].rigor,
        "theorem": found[worst].theorem,
        "assumptions": assumed,
        "quantities": {"spectral radius": Quantity(lower=low, upper=high, unit="per step"), "decay rate": _decay(low, high)},
        "per_channel": {"proved": np.array([v == "proved" for v in verdicts])},
    }
    for name in ("asymptotic_stability", "uniform_exponential_stability"):
        if verdicts[worst] == "refuted":
            witness = witnesses[entries[worst]]
            if is_layer(inquiry.subject) and not witness.replay().violated:
                reason = (
                    "an enclosed eigenvalue of the stored matrix is outside the circle, but that of the exported matrix in 64 bits is not"
                )
                yield inquiry.undecided(name, reason, **known)
            else:
                yield inquiry.answer(name, "refuted", witness=witness, **known)
        elif verdicts[worst] == "proved":
            yield inquiry.answer(name, "proved", **known)
        else:
            yield inquiry.undecided(name, found[worst].reason, cause="eigenvalues", **known)


def _decay(low: float, high: float) -> Quantity:
    def rate(radius: float, step: float) -> float:
        if radius <= 0:
            return math.inf
        if math.isinf(radius):
            return -math.inf
        value = -math.log1p(radius - 1) if 0.5 < radius < 2 else -math.log(radius)  # radius - 1 is exact there
        return value * (1 - math.copysign(step, value)) if value else 0.0

    return Quantity(lower=rate(high, 2.0**-40), upper=rate(low, -(2.0**-40)), unit="per token")


def _non_expansive(inquiry: Inquiry, sys: StateSpace, entries: list[tuple[int, ...]]) -> Certificate:
    """Return ||A||_2 <= 1: by Cholesky, or a singular vector that A makes longer in rational numbers."""
    known = {"theorem": "norm", "rigor": "float with counted rounding", "assumptions": inquiry.assumed}
    undecided, largest = [], 0.0
    for i in entries:
        norm, x = spectral_norm(sys.A[i])
        largest = max(largest, norm)
        if norm <= 1:
            continue
        witness = Stretch(A=sys.A[i], x=x, index=i)
        if witness.replay().violated:
            return inquiry.answer("non_expansive", "refuted", witness=witness, theorem="norm", rigor="exact", assumptions=inquiry.assumed)
        undecided.append(i)
    quantities = {"||A||": magnitude(largest, unit="(2-norm)")}
    if not undecided:
        return inquiry.answer("non_expansive", "proved", quantities=quantities, **known)
    return inquiry.undecided(
        "non_expansive",
        f"||A|| cannot be told from 1 in {len(undecided)} of {len(entries)} systems",
        cause="norm near 1",
        quantities=quantities,
    )


def spectral_norm(A: np.ndarray) -> tuple[float, np.ndarray]:
    """Return an upper bound of ||A||_2, by Cholesky of mu - A A^*, and a right singular vector."""
    from ssm_analysis.certificates.dense import _positive

    n = len(A)
    gram = A @ A.conj().T
    error = 4 * (2 * n + 8) * UNIT * float(np.linalg.norm(A)) ** 2 * (1 + 2.0**-30)
    x = np.linalg.svd(A)[2][0].conj()
    estimate = float(np.linalg.norm(A @ x)) ** 2
    for slack in (0.0, 1e-12, 1e-9, 1e-6, 1e-2):
        for mu in {1.0, estimate * (1 + slack)} if estimate < 1 else {estimate * (1 + slack)}:
            if mu > 0 and _positive(mu * np.eye(n) - gram, error + 2 * UNIT * (mu + float(np.max(np.abs(np.diag(gram)))))):
                return math.sqrt(mu) * (1 + 4 * UNIT) if mu != 1.0 else 1.0, x
    return float(above(np.asarray(np.linalg.norm(A)), 2 * n * n)), x


def bound_answers(inquiry: Inquiry, sys: StateSpace, found: Sequence[Circle]) -> Iterator[Certificate]:
    """Yield ||x|| <= K sup ||B u|| / (1 - radius) as ||A^k|| <= K radius^k."""
    if any(f.verdict != "proved" for f in found):
        for name in ("bounded_state", "bounded_output"):
            yield inquiry.undecided(name, "the system is not proved stable")
        return
    radius, overshoot = (np.reshape([g(f) for f in found], sys.batch_shape) for g in (lambda f: f.radius[1], lambda f: f.overshoot))
    drive, unit = _drive(inquiry, sys.B)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        state = np.where(drive == 0, 0.0, above(overshoot * drive / (1 - radius), 8))
    state = np.where(np.isfinite(state), state, math.inf)
    through = _drive(inquiry, sys.D)[0]
    with np.errstate(invalid="ignore"):
        output = above(np.max(row_norms(np.abs(sys.C)), axis=-1) * state + through, 8)
    known = {"theorem": "BIBO", "rigor": "float with counted rounding", "assumptions": (*inquiry.assumed, OF_SYSTEM)}
    for name, bound, what in (("bounded_state", state, "||x||"), ("bounded_output", output, "|y|")):
        quantities = {f"largest {what}": magnitude(np.max(bound), unit=unit)}
        if np.all(np.isfinite(bound)):
            yield inquiry.answer(name, "proved", quantities=quantities, per_channel={"upper": np.asarray(bound)}, **known)
        else:  # asymptotic stability alone: finite, by a constant that no proof here gives
            yield inquiry.answer(name, "proved", per_channel={"upper": np.asarray(bound)}, **known)


def _drive(inquiry: Inquiry, B: np.ndarray) -> tuple[Numbers, str]:
    """Return sup ||B u||_F, entry by entry of the batch."""
    inputs, size = inquiry.inputs, B.shape[-1] * B.shape[-2] + 16
    if inputs is None:
        return above(np.sqrt(np.sum(np.abs(B) ** 2, axis=(-2, -1))), size), "per unit of input (2-norm over the inputs, at every token)"
    if B.shape[-1] == 1 and inputs.weight.size != 1:  # one feature for each system of the batch
        u = above(np.abs(inputs.weight) * inputs.radius + np.abs(inputs.bias), 4)
        return above(np.sqrt(np.sum(np.abs(B[..., 0]) ** 2, axis=-1)) * u, size), "in units of the state"
    linear = np.sqrt(np.sum(np.abs(B * inputs.weight) ** 2, axis=(-2, -1))) * inputs.radius
    shift = np.sqrt(np.sum((np.abs(B) @ np.abs(inputs.bias)) ** 2, axis=-1))
    return above(linear + shift, 2 * size), "in units of the state"


def _rounded_entries(inquiry: Inquiry, sys: StateSpace, entries: list[tuple[int, ...]], dtype: str) -> Certificate:
    name, kind = f"pole_inside:{dtype}", rounded_type(dtype)
    assumed = (*inquiry.assumed, f"every entry of A is rounded to {dtype}")

    def rounded(A: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            re, im = (np.asarray(part, dtype=np.float64).astype(kind).astype(np.float64) for part in (np.real(A), np.imag(A)))
        return re + 1j * im if np.iscomplexobj(A) else re

    proved = []
    for i in entries:
        A = rounded(sys.A[i])
        if not np.all(np.isfinite(A)):
            return inquiry.undecided(name, f"an entry of A overflows in {dtype}", assumptions=assumed)
        found = circle(A, effort=inquiry.effort)
        if found.verdict == "refuted":
            witness = Eigenvalue(A=A, value=found.value, margin=found.radius[0] - 1, index=i)
            return inquiry.answer(name, "refuted", theorem="rounded entries", rigor=found.rigor, witness=witness, assumptions=assumed)
        proved.append(found.verdict == "proved")
    if all(proved):
        return inquiry.answer(name, "proved", theorem="rounded entries", rigor="float with counted rounding", assumptions=assumed)
    mask = np.array(proved)
    where = first_index(~mask)
    return inquiry.undecided(
        name,
        f"{counted_text(~mask, 'matrices')} as rounded are undecided, the first {where}",
        cause="rounded matrices",
        assumptions=assumed,
    )
