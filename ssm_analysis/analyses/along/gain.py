r"""The energy gain of a time-varying system over its window: the largest singular value of u -> y, L p x L m.

    gain = max_u ||y|| / ||u||,   ||y||^2 = sum_{t < L} |y[t]|^2.

Lanczos' iteration on T* T, all systems of the batch at once: T is a run of the recurrence, T* one of its adjoint backwards in time,
and the matrix, (L p) x (L m), is never formed. Krylov vectors are kept orthogonal by Gram and Schmidt done twice.

References
----------
Golub, Van Loan, Matrix Computations, 4th ed. (2013), chapter 10.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.analyses.along.transitions import adjoint_system
from ssm_analysis.analyses.responses.simulation import simulate
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, array_namespace, conj, device, real, stop_gradient, to_complex

BASIS = 20
"""Krylov vectors of a cycle: their (L, *batch, m) numbers are all that is held beside the states of one run."""
CYCLES = 10
"""Cycles at most, where the caller sets no limit."""
TINY = 1e-14
"""A Krylov vector smaller than this, relative to the operator, is rounding: the space is exhausted."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EnergyGain:
    """The largest ratio ||y|| / ||u|| over a window, and how well it is known.

    Parameters
    ----------
    gain
        ||T v|| / ||v|| for the input ``v`` below, in units of output per input: a lower bound of the largest singular value,
        whether or not the iteration has converged, up to the rounding of one run. Its gradients are those of the singular value,
        once converged.
    residual
        ||T* T v - gain^2 v|| / gain^2 for ||v|| = 1, dimensionless: some singular value s has |s^2 - gain^2| <= residual gain^2.
        That it is the largest one is likely (the iteration starts from all inputs alike), not proved.
    cycles
        The number of cycles that were run.
    input
        The input v that is amplified most, of norm 1.
    """

    gain: Float[Array, "*batch"]
    residual: Float[Array, "*batch"]
    cycles: int
    input: Inexact[Array, "l *batch m"]


def energy_gain(sys: DiagonalLTV, *, rtol: float = 1e-6, cycles: int = CYCLES) -> EnergyGain:
    """Return the energy gain of a time-varying system: the largest singular value of u[0..L-1] -> y[0..L-1], from x[0] = 0.

    No frozen gain tells it. For a constant stable system it grows with L toward `hinf_norm`. Each cycle runs 20 times forward and
    backward through the states; take windows of channels of a large layer.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    rtol
        The iteration stops where the relative residual is at most this.
    cycles
        The largest number of cycles. The last one may leave a larger ``residual`` than ``rtol``: look at it.

    Returns
    -------
    EnergyGain
        The gain, its residual and the input that attains it.

    Raises
    ------
    ValueError
        If ``rtol`` is not positive or ``cycles`` not a positive integer.

    References
    ----------
    Golub, Van Loan, Matrix Computations, 4th ed. (2013), chapter 10 (Lanczos' iteration).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import energy_gain
    >>> one = np.ones((2, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.zeros((2, 1)), B=one, C=one, D=one)  # T = [[1, 0], [1, 1]]
    >>> float(energy_gain(sys).gain.round(6))
    1.618034
    """
    check_system(sys, DiagonalLTV, "energy_gain")
    if not rtol > 0:
        raise ValueError(f"rtol must be positive, got {rtol}")
    if not isinstance(cycles, int) or isinstance(cycles, bool) or cycles < 1:
        raise ValueError(f"cycles must be a positive integer, got {cycles!r}")
    sys = in_double(sys)
    fixed = _Operator(sys.map(stop_gradient))
    v, done = _start(sys), 0
    gain, residual, left = _measured(fixed, v)
    while done < cycles and bool(sys.xp.any(residual > rtol)):
        better = _cycle(fixed, v)
        reached = _measured(fixed, better)
        keep = (reached[0] >= gain) & (residual > rtol)  # of a batch some are done before the others
        v, left = (sys.xp.where(keep[..., None], new, old) for new, old in ((better, v), (reached[2], left)))
        gain, residual = (sys.xp.where(keep, new, old) for new, old in zip(reached[:2], (gain, residual), strict=True))
        done += 1
    return EnergyGain(gain=real(_inner(left, simulate(sys, v))), residual=residual, cycles=done, input=v)


class _Operator:
    """The map T from u to y and its adjoint T*, with the matrices of both prepared once."""

    def __init__(self, sys: DiagonalLTV) -> None:
        self.size, self.xp = sys.length * sys.ninputs, sys.xp
        self._forward, self._backward = sys, adjoint_system(sys)

    def apply(self, v: Inexact[Array, "l *batch m"]) -> Inexact[Array, "l *batch p"]:
        """Return the outputs T v of the inputs v."""
        return simulate(self._forward, v)

    def adjoint(self, y: Inexact[Array, "l *batch p"]) -> Inexact[Array, "l *batch m"]:
        """Return the adjoint T* y of outputs y."""
        return self.xp.flip(simulate(self._backward, self.xp.flip(y, axis=0)), axis=0)


def _start(sys: DiagonalLTV) -> Inexact[Array, "l *batch m"]:
    """Return inputs of norm 1 that prefer no direction: normal numbers of a fixed seed.

    They are the same for every system, so that answers do not depend on the batch.
    """
    xp, channels = sys.xp, (1,) * len(sys.batch_shape)
    normal = np.random.default_rng(0).standard_normal((sys.length, *channels, sys.ninputs))
    v = xp.asarray(normal, dtype=real(sys.B).dtype, device=device(sys.B))
    complex_ = any(xp.isdtype(x.dtype, "complex floating") for x in (sys.log_poles, sys.B, sys.C, sys.D))
    v = xp.broadcast_to(v, (sys.length, *sys.batch_shape, sys.ninputs))
    return _normalized(to_complex(v) if complex_ else v)


def _cycle(T: _Operator, v: Inexact[Array, "l *batch m"]) -> Inexact[Array, "l *batch m"]:
    """Return the vector of the Krylov space of v that T amplifies most."""
    xp, basis, images, scale = T.xp, [v], [], 0.0
    for _ in range(min(BASIS, T.size)):
        w = T.adjoint(T.apply(basis[-1]))
        images.append(w)
        scale = scale + _norm(w) if not images[1:] else scale
        for _ in range(2):
            for q in basis:
                w = w - _inner(q, w)[..., None] * q
        basis.append(_normalized(w, at_least=TINY * scale))
    basis.pop()
    H = xp.stack([xp.stack([_inner(q, w) for w in images], axis=-1) for q in basis], axis=-2)
    H = (H + conj(xp.matrix_transpose(H))) / 2
    weights = xp.linalg.eigh(H)[1][..., -1]  # of the largest eigenvalue
    return _normalized(sum(weights[..., i, None] * q for i, q in enumerate(basis)))


def _measured(T: _Operator, v: Inexact[Array, "l *batch m"]) -> tuple[Array, Array, Array]:
    """Return the gain ||T v||, its residual ||T* T v - ||T v||^2 v|| / ||T v||^2, and T v / ||T v||, for ||v|| = 1."""
    xp, y = T.xp, T.apply(v)
    gain = _norm(y)
    nothing = gain == 0
    safe = xp.where(nothing, xp.ones_like(gain), gain)
    left = y / safe[..., None]
    excess = _norm(T.adjoint(left) - gain[..., None] * v)
    return gain, xp.where(nothing, xp.zeros_like(gain), excess / safe), left


def _inner(a: Inexact[Array, "l *batch c"], b: Inexact[Array, "l *batch c"]) -> Inexact[Array, "*batch"]:
    """Return the inner product of two signals, over time and channels."""
    return array_namespace(a, b).sum(conj(a) * b, axis=(0, -1))


def _norm(x: Inexact[Array, "l *batch c"]) -> Float[Array, "*batch"]:
    """Return the norm of a signal, over time and channels."""
    return array_namespace(x).sqrt(real(_inner(x, x)))


def _normalized(x: Inexact[Array, "l *batch c"], at_least: Array | float = 0.0) -> Inexact[Array, "l *batch c"]:
    """Return x / ||x||, and 0 where x is no larger than ``at_least``."""
    xp, size = array_namespace(x), _norm(x)
    some = size > at_least
    x = x / xp.where(some, size, xp.ones_like(size))[..., None]
    return xp.where(some[..., None], x, xp.zeros_like(x))
