r"""Eigenvalues that need more than 53 bits: enclosed in balls, with their condition numbers.

An eigenvalue of condition number kappa moves by up to kappa ||dA|| when A changes by dA. In double precision every
eigenvalue with kappa > 1e16 is noise; HiPPO-LegS with 64 states has kappa = 1e47. Here the entries are exact numbers
(or balls around numbers such as sqrt(3) and pi), the eigenvalues are computed in interval arithmetic, and the precision
is raised until each of them is isolated to 19 digits.

References
----------
Johansson, Arb, IEEE Trans. Computers 66 (2017) 1281-1292; Rump, Acta Numerica 19 (2010) 287-449, section 13.4.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Complex, Float, Inexact

if TYPE_CHECKING:
    import flint

Ball: TypeAlias = Any
"""``flint.acb``: a complex number with an error bound on each of its parts."""

LADDER = (256, 512, 1024)
"""Working precisions in bits. 256 suffice for the stored S4 matrices that were tried (up to 128 states), 512 for the ideal
HiPPO-LegT with 64 (1 s and 3 s). Two eigenvalues that 1024 bits cannot tell apart are a double one for every purpose here; with
64 states a ladder that fails takes 5 s."""
ACCURACY = 2.0**-64
"""Radius of an eigenvalue relative to it, for its real and imaginary part alone: rounding to 53 bits is then the larger error."""
NOTHING = 2.0**-128
"""A part that cannot be told from 0 and is smaller than this times the norm of A is taken to be 0."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnclosedEigenvalues:
    """All eigenvalues of a matrix, the slowest (largest real part) first, conjugate ones next to each other.

    Parameters
    ----------
    balls
        Each contains its eigenvalue. They are disjoint where ``conditions`` is finite.
    conditions
        Condition number of each eigenvalue, ||l|| ||r|| / |l r| of its left and right eigenvector: 1 for normal matrices.
        Infinite where the eigenvalue could not be told from another one, so that no eigenvector belongs to it alone.
    bits
        Working precision that was needed.
    """

    balls: tuple[Ball, ...]
    conditions: Float[np.ndarray, " n"]
    bits: int

    @property
    def values(self) -> Complex[np.ndarray, " n"]:
        """The eigenvalues, rounded to double precision."""
        return np.asarray([nearest(ball) for ball in self.balls])

    @property
    def condition(self) -> float:
        r"""||V||_F ||V^{-1}||_F of the eigenvectors V with unit columns: n for normal matrices.

        V has Frobenius norm sqrt(n), and the rows of V^{-1} have the condition numbers of the eigenvalues as their norms.
        """
        largest, n = float(np.max(self.conditions)), len(self.conditions)
        return largest if math.isinf(largest) else n * largest * math.sqrt(float(np.mean((self.conditions / largest) ** 2)))


def eigenvalues(A: Inexact[np.ndarray, "n n"]) -> EnclosedEigenvalues:
    """Return eigenvalues of a matrix whose floating-point entries are taken as exact numbers.

    ``numpy.linalg.eigvals`` with error bounds, for matrices on which it returns noise. See `enclose_eigenvalues`.

    Raises
    ------
    ValueError
        If A is not a finite square matrix, or no precision separates its eigenvalues.

    Examples
    --------
    >>> from ssm_analysis.analyses.spectrum.extended_precision import eigenvalues
    >>> found = eigenvalues(np.asarray([[-1.0, 1e9], [0.0, -2.0]]))
    >>> found.values.real
    array([-1., -2.])
    >>> f"{found.condition:.1e}"  # any error of A is amplified by up to this
    '2.0e+09'
    """
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0 or not np.all(np.isfinite(A)):
        raise ValueError(f"A must be a square matrix of finite numbers, got {A!r}")
    return enclose_eigenvalues(lambda: exact_matrix(A))


def exact_matrix(A: Inexact[np.ndarray, "n n"]) -> "flint.arb_mat | flint.acb_mat":
    """Return the same numbers as a matrix of balls with radius 0."""
    import flint

    if np.iscomplexobj(A):
        return flint.acb_mat([[flint.acb(complex(x)) for x in row] for row in A])
    return flint.arb_mat([[flint.arb(float(x)) for x in row] for row in A])


def enclose_eigenvalues(matrix: "Callable[[], flint.arb_mat | flint.acb_mat]", *, ladder: Sequence[int] = LADDER) -> EnclosedEigenvalues:
    """Return eigenvalues of a matrix that can be computed in any precision.

    Parameters
    ----------
    matrix
        Called at each working precision, ``flint.ctx.prec``; returns the matrix as balls.
    ladder
        Working precisions in bits, tried one after the other.

    Raises
    ------
    ValueError
        If the eigenvalues cannot be enclosed at the last precision.
    """
    import flint

    for bits in ladder:
        with flint.ctx.workprec(bits):
            found = _isolated(matrix(), bits)
        if found is not None:
            return found
    with flint.ctx.workprec(ladder[-1]):
        found = _clustered(matrix(), ladder[-1])
    if found is None:
        raise ValueError(
            f"the eigenvalues could not be enclosed with {ladder[-1]} bits: the matrix has a multiple eigenvalue, probably with too "
            "few eigenvectors (it is defective); the pseudospectrum answers for such a matrix, or change one of its entries in the last "
            "digit to see eigenvalues that are apart"
        )
    return found


def bilinear_log_pole(a: Ball, delta: "flint.arb") -> Ball | None:
    """Return log((1 + delta a/2) / (1 - delta a/2)), the log-pole of S4's discretization; None where the pole is 0.

    Raises
    ------
    ValueError
        If delta a = 2, where the discrete matrix does not exist.
    """
    w = delta * a / 2
    if (1 - w).contains(0):
        raise ValueError(
            f"the bilinear rule needs I - delta A / 2 to be invertible, but delta A has the eigenvalue 2, delta = {float(delta)}"
        )
    return None if (1 + w).contains(0) else ((1 + w) / (1 - w)).log()


def nearest(ball: Ball) -> complex:
    """Return a number in the ball in double precision; a part that may be 0 is 0."""
    return complex(*(0.0 if part.contains(0) else float(part) for part in (ball.real, ball.imag)))


def _isolated(A: "flint.arb_mat | flint.acb_mat", bits: int) -> EnclosedEigenvalues | None:
    """Return all eigenvalues in disjoint, small balls, or None."""
    import flint

    try:
        balls, left, right = A.eig(left=True, right=True)
    except (ValueError, ZeroDivisionError):  # not isolated; no inverse of the eigenvectors
        return None
    rows, columns = left.tolist(), right.transpose().tolist()
    conditions = [(_square(row) * _square(column)).sqrt() for row, column in zip(rows, columns, strict=True)]
    pairs = list(zip(balls, conditions, strict=True))
    if isinstance(A, flint.arb_mat):
        pairs = _conjugate_pairs(pairs)
    if pairs is None or not _accurate(A, [ball for ball, _ in pairs]) or not all(k.rad() < k.mid() / 1024 for _, k in pairs):
        return None
    return _sorted(pairs, bits)


def _clustered(A: "flint.arb_mat | flint.acb_mat", bits: int) -> EnclosedEigenvalues | None:
    """Return small balls that may overlap: multiple eigenvalues with as many eigenvectors."""
    import flint

    try:
        balls = A.eig(multiple=True)
    except ValueError:
        return None
    return _sorted([(ball, flint.arb("inf")) for ball in balls], bits) if _accurate(A, balls) else None


def _conjugate_pairs(pairs: list[tuple[Ball, Ball]]) -> list[tuple[Ball, Ball]] | None:
    """Make, for a real matrix, real eigenvalues exactly real, the others mirrored; None where that is not proved.

    A ball that meets the real axis holds a real eigenvalue if its mirror image meets no other ball: otherwise the
    conjugate of the eigenvalue would be a second one in that image.
    """
    import flint

    out: list[tuple[Ball, Ball]] = []
    for i, (ball, condition) in enumerate(pairs):
        if not ball.imag.contains(0):
            if ball.imag > 0:
                out += [(ball, condition), (ball.conjugate(), condition)]
        elif any(j != i and ball.conjugate().overlaps(other) for j, (other, _) in enumerate(pairs)):
            return None
        else:
            out.append((flint.acb(ball.real, 0), condition))
    return out if len(out) == len(pairs) else None


def _accurate(A: "flint.arb_mat | flint.acb_mat", balls: Sequence[Ball]) -> bool:
    nothing = NOTHING * float(_square(A.entries()).sqrt())

    def accurate(part: Ball) -> bool:
        return part.rad() <= nothing if part.contains(0) else part.rad() <= ACCURACY * abs(part.mid())

    return all(ball.is_finite() and accurate(ball.real) and accurate(ball.imag) for ball in balls)


def _sorted(pairs: list[tuple[Ball, Ball]], bits: int) -> EnclosedEigenvalues:
    def key(pair: tuple[Ball, Ball]) -> tuple[float, float, float]:
        value = nearest(pair[0])
        return -value.real, abs(value.imag), -value.imag

    pairs = sorted(pairs, key=key)
    conditions = np.asarray([float(condition) for _, condition in pairs])
    return EnclosedEigenvalues(balls=tuple(ball for ball, _ in pairs), conditions=conditions, bits=bits)


def _square(numbers: Sequence[Ball]) -> Ball:
    """sum |x|^2."""
    import flint

    return sum((abs(x) ** 2 for x in numbers), flint.arb(0))
