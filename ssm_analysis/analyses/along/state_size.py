r"""Effective state-size: how many of its states a time-varying system uses to carry the past of its input into the future.

The block T[t:, :t] of the operator maps u[0..t-1] to y[t..L-1]; its rank is at most n, and what counts of it may be far less. The
singular values come from n x n factors (`hsv_at`), never from the block.

References
----------
Parnichkun et al., Quantifying memory utilization with effective state-size, arXiv 2504.19561. Roy, Vetterli, The effective rank,
EUSIPCO (2007) 606-610.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float

from ssm_analysis.analyses.along.gramians import hsv_at, interior_times
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system
from ssm_analysis.xp import Array, array_namespace, stop_gradient

TIMES = 16
"""Times within the window, evenly spaced, at which the state is measured where none are given."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EffectiveStateSize:
    """How many states the map from past to future needs, at each of some times.

    Parameters
    ----------
    at
        The times t: the past is u[0..t-1], the future y[t..L-1].
    singular_values
        The singular values of the operator from past to future, decreasing, in units of output per input; see `hsv_at`.
    tolerance
        The size, relative to the largest singular value, above which a value counts.
    tolerance_rank
        The number of singular values above ``tolerance`` times the largest; 0 where nothing passes.
    entropy_rank
        The effective number of singular values, exp(-sum p log p) with p = sigma / sum sigma; 0 where nothing passes. It has gradients.
    """

    at: tuple[int, ...]
    singular_values: Float[Array, "q *batch n"]
    tolerance: float
    tolerance_rank: Float[Array, "q *batch"]
    entropy_rank: Float[Array, "q *batch"]


def effective_state_size(sys: DiagonalLTV, *, at: Sequence[int] | None = None, tolerance: float = 1e-3) -> EffectiveStateSize:
    """Return how many states the text really uses: the ranks of the blocks T[t:, :t] of the operator, for t in ``at``.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        Times t from 1 to L-1; by default 16 of them, evenly spaced.
    tolerance
        The singular values that count are those above this share of the largest, as the size of a block depends on the units of
        the layer; for another threshold count the ``singular_values``.

    Returns
    -------
    EffectiveStateSize
        The singular values at each time and two ranks of them.

    Raises
    ------
    ValueError
        If ``at`` is empty or a time does not lie in 1..L-1, ``tolerance`` does not lie between 0 and 1, or L is 1.

    References
    ----------
    Parnichkun et al., arXiv 2504.19561 (tolerance and entropy of the effective state-size).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import effective_state_size
    >>> one = np.ones((6, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.full((6, 1), -0.5), B=one, C=one, D=one)
    >>> effective_state_size(sys, at=(3,)).tolerance_rank
    array([1.])
    """
    check_system(sys, DiagonalLTV, "effective_state_size")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, both excluded, got {tolerance}")
    if at is None:
        at = sorted({max(1, round(i * sys.length / (TIMES + 1))) for i in range(1, TIMES + 1)} & set(range(1, sys.length)))
    times = interior_times(sys, at)
    sigma = hsv_at(sys, times)
    xp = array_namespace(sigma)
    kept = stop_gradient(sigma)
    return EffectiveStateSize(
        at=tuple(times),
        singular_values=sigma,
        tolerance=tolerance,
        tolerance_rank=xp.sum(xp.astype(kept > tolerance * kept[..., :1], sigma.dtype), axis=-1),
        entropy_rank=_entropy_rank(sigma),
    )


def _entropy_rank(sigma: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """Return exp of the entropy of the singular values, normalized to sum 1: their effective number."""
    xp = array_namespace(sigma)
    total = xp.sum(sigma, axis=-1, keepdims=True)
    nothing = total == 0
    p = sigma / xp.where(nothing, xp.ones_like(total), total)
    logs = xp.log(xp.where(p == 0, xp.ones_like(p), p))
    rank = xp.exp(-xp.sum(p * logs, axis=-1))
    return xp.where(nothing[..., 0], xp.zeros_like(rank), rank)
