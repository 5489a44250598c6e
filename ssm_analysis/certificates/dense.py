r"""Full matrices: is every |lambda| < 1? Quick tests first, then Stein and Cholesky, Gershgorin's discs, and balls.

Complex arithmetic is counted with the constant 4: a complex product of inner length n has the error gamma_{2n+4} in terms of
the absolute values of real and imaginary parts, which add up to sqrt(2) times the modulus at most.
"""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ssm_analysis.analyses.gramians.gramians import solve_stein
from ssm_analysis.certificates.rounding import UNIT, above

BALL_BITS = (64, 128, 256, 512)
"""Working precisions in bits."""
BALL_STATES = {"fast": 48, "tight": 96, "witness": 320}
"""Up to this many states balls are tried: about 1 s, 10 s and 100 s at the precision that usually decides (measured)."""
RATIONAL_STATES = 24
"""Up to this many states determinants are computed in rational numbers, below 0.1 s."""


@dataclass(frozen=True, kw_only=True)
class Circle:
    """Where the eigenvalues are.

    Parameters
    ----------
    verdict
        ``proved``: all inside; ``refuted``: one on or outside; ``undecided``.
    theorem, rigor
        What decided.
    radius
        Bounds of the spectral radius.
    value
        The eigenvalue that refutes, rounded.
    reason
        Why nothing decided.
    """

    verdict: str
    theorem: str = ""
    rigor: str = "none"
    radius: tuple[float, float] = (0.0, math.inf)
    value: complex = 0j
    reason: str = ""
    overshoot: float = math.inf
    """A bound of ||A^k|| / radius^k over all k, with the upper radius; infinite where none is known."""


def circle(A: np.ndarray, *, effort: str = "fast") -> Circle:
    """Return whether all eigenvalues of A, its entries taken as exact numbers, lie inside the unit circle."""
    A = np.asarray(A, dtype=np.complex128 if np.iscomplexobj(A) and np.any(np.imag(A)) else np.float64) if not _real(A) else np.real(A)
    for test in (_triangular, _small_norm, _stein, _discs, _unit_eigenvalue):
        found = test(A)
        if found is not None:
            return found
    if len(A) > BALL_STATES[effort]:
        reason = f"neither Stein's inequality nor Gershgorin's discs decide; effort beyond {effort!r} tries balls for {len(A)} states"
        return Circle(verdict="undecided", reason=reason)
    return _balls(A)


def _real(A: np.ndarray) -> bool:
    return not np.iscomplexobj(A) or not np.any(np.imag(A))


def _triangular(A: np.ndarray) -> Circle | None:
    if np.any(np.tril(A, -1)) and np.any(np.triu(A, 1)):
        return None
    values = np.diag(A).tolist()
    squares = [Fraction(complex(v).real) ** 2 + Fraction(complex(v).imag) ** 2 for v in values]
    largest = max(range(len(values)), key=lambda i: squares[i])
    size = float(np.sqrt(float(squares[largest])))
    radius = (max(0.0, size * (1 - 4 * UNIT)), size * (1 + 4 * UNIT))
    inside = squares[largest] < 1
    return Circle(
        verdict="proved" if inside else "refuted", theorem="triangular", rigor="exact", radius=radius, value=complex(values[largest])
    )


def _small_norm(A: np.ndarray) -> Circle | None:
    n, size = len(A), np.abs(A) * (1 + 4 * UNIT)
    mixed = np.sqrt(np.max(np.sum(size, axis=0)) * np.max(np.sum(size, axis=1)))
    norm = float(above(np.minimum(mixed, np.sqrt(np.sum(size * size))), n * n + 8))
    return (
        Circle(verdict="proved", theorem="norm", rigor="float with counted rounding", radius=(0.0, norm), overshoot=1.0)
        if norm < 1
        else None
    )


def _stein(A: np.ndarray) -> Circle | None:
    n = len(A)
    try:
        with np.errstate(all="ignore"):
            P = solve_stein(A, np.eye(n, dtype=A.dtype))
    except ValueError:
        return None
    if not np.all(np.isfinite(P)):
        return None
    P = (P + P.conj().T) / 2
    gap = P - A @ P @ A.conj().T
    gap = (gap + gap.conj().T) / 2
    size = float(np.linalg.norm(P)) * (1 + 2.0**-40)
    # two products of inner length n (complex: 4 times), a difference, the halved sum: in the Frobenius norm
    error = 8 * (2 * n + 8) * UNIT * (1 + float(np.linalg.norm(A)) ** 2) * size * (1 + 2.0**-40)
    if not (_positive(P, 0.0) and _positive(gap, error)):
        return None
    low = 0.5 if _positive(gap - 0.5 * np.eye(n), error + UNIT * size) else 0.0
    radius = math.sqrt(max(0.0, 1 - low / size)) * (1 + 4 * UNIT) if low else 1.0
    overshoot = (
        math.sqrt(size / low) * (1 + 8 * UNIT) if low else math.inf
    )  # P >= P - A P A^* >= low: ||A^k|| <= sqrt(||P|| / low) radius^k
    return Circle(
        verdict="proved", theorem="Stein", rigor="float with counted rounding", radius=(0.0, min(radius, 1.0)), overshoot=overshoot
    )


def _positive(M: np.ndarray, error: float) -> bool:
    """Return whether Cholesky succeeds after everything that rounding can add is taken off; four times Rump's constant, complex
    included."""
    n = len(M)
    shift = (error + 8 * (n + 4) * UNIT * float(np.sum(np.abs(np.diag(M))))) * (1 + 2.0**-30) + 2.0**-960
    with np.errstate(all="ignore"):
        shifted = M - shift * np.eye(n)
        if not np.all(np.isfinite(shifted)):  # Cholesky may succeed on NaN
            return False
        try:
            np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            return False
    return True


def _discs(A: np.ndarray) -> Circle | None:
    """Return V^{-1} A V = L + (W V)^{-1} W (A V - V L): discs around the diagonal, and which of them hang together."""
    n = len(A)
    try:
        values, V = np.linalg.eig(A.astype(np.complex128))
        W = np.linalg.inv(V)
    except np.linalg.LinAlgError:
        return None
    if not (np.all(np.isfinite(W)) and np.all(np.isfinite(V))):
        return None
    gamma = 4 * (2 * n + 8) * UNIT
    defect = np.abs(np.eye(n) - W @ V) + gamma * (np.abs(W) @ np.abs(V) + np.eye(n))
    residual = A @ V - V * values
    residual_size = np.abs(residual) + gamma * (np.abs(A) @ np.abs(V) + np.abs(V) * np.abs(values))
    moved = np.abs(W @ residual) + gamma * (np.abs(W) @ np.abs(residual)) + np.abs(W) @ (residual_size - np.abs(residual))
    slack = 1 + 2.0**-30
    off, rows = float(np.max(np.sum(defect, axis=1))) * slack, np.sum(moved, axis=1) * slack
    if not off < 0.5:
        return None
    radii = (rows + np.sum(defect, axis=1) * slack * float(np.max(rows)) / (1 - off)) * slack
    found = functools.partial(_decided, "Gershgorin", "float with counted rounding")
    size = np.abs(values)
    low, high = np.maximum(size * (1 - 8 * UNIT) - radii, 0), size * (1 + 8 * UNIT) + radii
    groups = _groups(values, radii)
    if np.all(high < 1):
        return found("proved", (max(float(np.min(low[group])) for group in groups), float(np.max(high))))
    for group in groups:
        if np.all(low[group] > 1):
            best = group[int(np.argmax(low[group]))]
            floor = float(np.min(low[group]))
            return found("refuted", (floor, float(np.max(high))), complex(values[best]))
    return None


def _decided(theorem: str, rigor: str, verdict: str, radius: tuple[float, float], value: complex = 0j) -> Circle:
    return Circle(verdict=verdict, theorem=theorem, rigor=rigor, radius=radius, value=value)


def _groups(values: np.ndarray, radii: np.ndarray) -> list[np.ndarray]:
    """Return indices of discs that hang together."""
    from scipy.sparse.csgraph import connected_components

    touching = np.abs(values[:, None] - values[None, :]) * (1 - 8 * UNIT) <= (radii[:, None] + radii[None, :]) * (1 + 8 * UNIT)
    count, label = connected_components(touching, directed=False)
    return [np.flatnonzero(label == k) for k in range(count)]


def _unit_eigenvalue(A: np.ndarray) -> Circle | None:
    """Return det(A - 1) = 0 or det(A + 1) = 0 in rational numbers, where double precision sees an eigenvalue there."""
    import flint

    if not _real(A) or len(A) > RATIONAL_STATES:
        return None
    values = np.linalg.eigvals(A)
    for sign in (1, -1):
        if np.min(np.abs(values - sign)) > 1e-4:
            continue
        rows = [[flint.fmpq(*float(x).as_integer_ratio()) - (sign if i == j else 0) for j, x in enumerate(row)] for i, row in enumerate(A)]
        if flint.fmpq_mat(rows).det() == 0:
            return Circle(verdict="refuted", theorem="determinant", rigor="exact", radius=(1.0, math.inf), value=complex(sign))
    return None


def _balls(A: np.ndarray) -> Circle:
    import flint

    from ssm_analysis.analyses.spectrum.extended_precision import exact_matrix

    reason = "the eigenvalues could not be enclosed"
    for bits in BALL_BITS:
        with flint.ctx.workprec(bits):
            found = ball_circle(exact_matrix(A))
        if found.verdict != "undecided":
            return found
        reason = f"{found.reason} with {bits} bits"
    return Circle(verdict="undecided", reason=reason)


def ball_circle(A: "object") -> Circle:
    """Enclose the same for a matrix of balls at the working precision."""
    try:
        try:
            balls = A.eig()  # type: ignore[attr-defined]
        except (ValueError, ZeroDivisionError):
            balls = A.eig(multiple=True)  # type: ignore[attr-defined]
    except (ValueError, ZeroDivisionError):
        return Circle(verdict="undecided", reason="the eigenvalues could not be enclosed")
    sizes = [(ball.abs_lower(), ball.abs_upper()) for ball in balls]
    top = max(range(len(balls)), key=lambda i: float(sizes[i][0]))
    low, high = (math.nextafter(float(sizes[top][0]), 0.0), math.nextafter(max(float(b) for _, b in sizes), math.inf))
    if sizes[top][0] >= 1:
        value = complex(float(balls[top].real), float(balls[top].imag))
        return _decided("balls", "interval", "refuted", (max(low, 1.0), high), value)
    if all(upper < 1 for _, upper in sizes):
        return _decided("balls", "interval", "proved", (low, min(high, 1.0)))
    return Circle(verdict="undecided", radius=(low, high), reason="an eigenvalue could not be told from the circle")
