r"""How the energy of the kernel K = (D, C B, C A B, ...) is spread over time, in closed form.

With the controllability Gramian P = sum_k A^k B B* (A*)^k = L L*,

    sum_{k > T} ||K[k]||_F^2 = trace(C A^T P (C A^T)*) = ||C A^T L||_F^2.

No time step is ever simulated, so lags of 10^9 tokens cost no more than lags of 10. For diagonal A, T enters through
exp(T log(lambda)), never through a rounded lambda, and the factor L is known entry by entry: the energy is a sum of
squares, and poles close to each other, whose residues cancel, cost no more digits than the kernel itself loses.
"""

import math
from dataclasses import dataclass

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.gramians.factors import controllability_factor
from ssm_analysis.analyses.gramians.gramians import solve_stein
from ssm_analysis.analyses.gramians.stability import KINDS, infinite_where, made_stable
from ssm_analysis.analyses.responses.gains import all_modes
from ssm_analysis.systems import LTI, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, abs2, adjoint, array_namespace, conj, device, matmul, real, stop_gradient

DOUBLINGS = 1000
"""A horizon beyond 2^1000 tokens counts as infinite; the energy of a kernel that lasts so long hardly fits into a double."""


def kernel_energy(sys: LTI) -> Float[Array, "*batch"]:
    """Return the energy of the kernel, sum_k ||K[k]||_F^2; infinite where a system is not stable.

    Same as ``control.norm(sys, 2) ** 2``, for a batch. An unstable mode makes the energy infinite even if no input reaches it or
    no output sees it.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The energy of each system, in the squared units of G, output per input.

    References
    ----------
    Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 5.5 (the H2 norm by Gramians).

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import kernel_energy
    >>> one = np.ones((1, 1))
    >>> float(kernel_energy(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=one)).round(6))  # 1 + 1 + 1/4 + 1/16 + ...
    2.333333
    """
    check_system(sys, KINDS, "kernel_energy")
    safe, unstable = made_stable(in_double(sys))
    tail = _tail(safe)
    return infinite_where(unstable, tail.energy(tail.start()) + _direct(safe))


def energy_beyond(sys: LTI, lags: tuple[int, ...]) -> Float[Array, "*batch lags"]:
    """Return the share of the energy of the kernel after each lag T: sum_{k > T} ||K[k]||_F^2 / sum_{k >= 0} ||K[k]||_F^2.

    Parameters
    ----------
    sys
        A time-invariant system.
    lags
        The lags T in tokens, integers of at least 0.

    Returns
    -------
    Array
        Shares between 0 and 1, one for each lag along the last axis; NaN where the kernel has no finite energy, or none at all.

    Raises
    ------
    ValueError
        If ``lags`` is empty or a lag is not an integer of at least 0.

    Examples
    --------
    >>> from ssm_analysis.analyses.gramians import energy_beyond
    >>> one = np.ones((1, 1))
    >>> energy_beyond(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one), (0, 1, 2)).round(6)
    array([1.    , 0.25  , 0.0625])
    """
    check_system(sys, KINDS, "energy_beyond")
    if not lags or any(not isinstance(lag, int) or isinstance(lag, bool) or lag < 0 for lag in lags):
        raise ValueError(f"lags must be integers of at least 0 (tokens), one or more, got {lags!r}")
    safe, unstable = made_stable(in_double(sys))
    xp, tail = safe.xp, _tail(safe)
    late = xp.stack([tail.energy(tail.after(lag)) for lag in lags], axis=-1)
    total = (tail.energy(tail.start()) + _direct(safe))[..., None]
    answer = ~unstable[..., None] & (total > 0) & xp.isfinite(total)
    late = xp.where(answer, late, xp.full_like(late, math.nan))
    return late / xp.where(answer, total, xp.ones_like(total))


def horizon(sys: LTI, *, share: float = 0.99) -> Float[Array, "*batch"]:
    """Return the time by which ``share`` of the energy of the kernel has passed, in tokens.

    It is T dt for the smallest T with sum_{k <= T} ||K[k]||_F^2 >= share sum_k ||K[k]||_F^2. As T is an integer, constant between
    its jumps, the horizon has no gradient.

    Parameters
    ----------
    sys
        A time-invariant system.
    share
        The share of the energy, between 0 and 1, both excluded.

    Returns
    -------
    Array
        The horizon in tokens (units of dt): 0 where D holds the share already, infinite where the kernel has no finite energy, NaN
        for a kernel that is zero.

    Raises
    ------
    ValueError
        If ``share`` does not lie between 0 and 1.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> float(horizon(DiagonalSSM(log_poles=np.asarray([-0.01]), B=one, C=one, D=0 * one)))  # log(100) / 0.02
    231.0
    """
    check_system(sys, KINDS, "horizon")
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, both excluded, got {share}")
    safe, unstable = made_stable(in_double(sys).map(stop_gradient))
    xp, tail = safe.xp, _tail(safe)
    total = tail.energy(tail.start()) + _direct(safe)
    finite = xp.isfinite(total) & ~unstable
    infinite = xp.full_like(total, math.inf)
    steps = _steps_until(tail, xp.where(finite, (1 - share) * total, infinite))
    steps = xp.where(finite & (steps < 2.0**DOUBLINGS), steps, infinite)
    return xp.where((total == 0) & ~unstable, xp.full_like(total, math.nan), steps) * sys.dt


@dataclass(frozen=True, eq=False)
class _DiagonalTail:
    """The energy after step T of diagonal systems; a position in time is T itself, one number for each system."""

    log_poles: Inexact[Array, "*batch n"]
    C: Inexact[Array, "*batch p n"]
    L: Inexact[Array, "*batch n n"]

    def start(self) -> Array:
        """Return the position T = 0."""
        return array_namespace(self.C).zeros(self.C.shape[:-2], dtype=real(self.C).dtype, device=device(self.C))

    def after(self, lag: int) -> Array:
        """Return the position T = ``lag``, the same for all systems."""
        return self.start() + float(lag)

    def step(self) -> float:
        """Return what one step adds to a position."""
        return 1.0

    def doubled(self, power: float) -> float:
        """Return what twice as many steps add to a position."""
        return 2 * power

    def moved(self, position: Array, power: float) -> Array:
        """Return the position reached by the steps of ``power``."""
        return position + power

    def chosen(self, condition: Array, x: Array, y: Array) -> Array:
        """Return position x where ``condition`` is true, y elsewhere."""
        return array_namespace(x).where(condition, x, y)

    def energy(self, position: Array) -> Float[Array, "*batch"]:
        """Return the energy after each position, ||C lambda^T L||_F^2."""
        xp = array_namespace(self.C)
        decayed = self.C * xp.exp(self.log_poles * position[..., None])[..., None, :]
        return xp.sum(abs2(matmul(decayed, self.L)), axis=(-2, -1))


@dataclass(frozen=True, eq=False)
class _DenseTail:
    """The energy after step T of systems with a full A; a position in time is the matrix C A^T.

    Through P, not through its factor: that costs a QR decomposition for each doubling (measured: twice as much), and its
    derivative does not exist where P is singular.
    """

    A: Inexact[Array, "*batch n n"]
    C: Inexact[Array, "*batch p n"]
    P: Inexact[Array, "*batch n n"]

    def start(self) -> Array:
        """Return the position T = 0."""
        return self.C

    def after(self, lag: int) -> Array:
        """Return the position T = ``lag``, the same for all systems."""
        return matmul(self.C, array_namespace(self.A).linalg.matrix_power(self.A, lag))

    def step(self) -> Array:
        """Return the factor of one step."""
        return self.A

    def doubled(self, power: Array) -> Array:
        """Return the factor of twice as many steps."""
        return matmul(power, power)

    def moved(self, position: Array, power: Array) -> Array:
        """Return the position reached by the steps of ``power``."""
        return matmul(position, power)

    def chosen(self, condition: Array, x: Array, y: Array) -> Array:
        """Return position x where ``condition`` is true, y elsewhere."""
        return array_namespace(x).where(condition[..., None, None], x, y)

    def energy(self, position: Array) -> Float[Array, "*batch"]:
        """Return the energy after each position, trace(C A^T P (C A^T)*)."""
        xp = array_namespace(position)
        form = xp.sum(real(matmul(position, self.P) * conj(position)), axis=(-2, -1))
        return xp.where(form > 0, form, xp.zeros_like(form))  # a sum of squares; rounding may leave -1e-20


def _tail(sys: LTI) -> _DiagonalTail | _DenseTail:
    """Return the energy of a stable system as a function of the time after which it is counted."""
    if isinstance(sys, StateSpace):
        return _DenseTail(sys.A, sys.C, solve_stein(sys.A, matmul(sys.B, adjoint(sys.B))))
    whole = all_modes(sys)
    return _DiagonalTail(whole.log_poles, whole.C, controllability_factor(whole))


def _steps_until(tail: _DiagonalTail | _DenseTail, allowed: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """Return the smallest T after which at most ``allowed`` is still to come.

    Bisection over the bits of T finds the largest T with more to come; one further step is the answer.
    """
    xp, start = array_namespace(allowed), tail.start()
    powers = [tail.step()]  # of 2^k steps, until enough has passed everywhere
    while len(powers) <= DOUBLINGS and bool(xp.any(tail.energy(tail.moved(start, powers[-1])) > allowed)):
        powers.append(tail.doubled(powers[-1]))
    position, steps = start, xp.zeros_like(allowed)
    for k in reversed(range(len(powers))):
        further = tail.moved(position, powers[k])
        more = tail.energy(further) > allowed
        position = tail.chosen(more, further, position)
        steps = steps + xp.where(more, xp.full_like(steps, 2.0**k), xp.zeros_like(steps))
    return xp.where(tail.energy(start) > allowed, steps + 1, steps)


def _direct(sys: LTI) -> Float[Array, "*batch"]:
    """Return ||D||_F^2, the energy of the response at once."""
    return sys.xp.sum(abs2(sys.D), axis=(-2, -1))
