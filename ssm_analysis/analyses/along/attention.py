r"""The operator of a time-varying system as the matrix that attention would have, and how far back it looks.

    alpha[t, s] = C[t] Lambda[t-1] ... Lambda[s+1] B[s]  (s < t),    alpha[t, t] = D[t],    y[t] = sum_s alpha[t, s] u[s].

In the letters of Mamba, which reads out after the update, this is C_t Abar_t ... Abar_{s+1} Bbar_s, and C_t Bbar_t + D on the
diagonal. Nothing of size L x L is formed but where the whole matrix is asked for.

References
----------
Ali, Zimerman, Wolf, The hidden attention of Mamba models, arXiv 2403.01590 (there without D; of a layer set D = 0 first).
Ben-Kish et al., DeciMamba, arXiv 2406.14528 (mean distance).
"""

from collections.abc import Sequence

from jaxtyping import Float, Inexact

from ssm_analysis.analyses.along.transitions import checked_steps, operator_row
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, arange, array_namespace


def hidden_attention(sys: DiagonalLTV, *, at: Sequence[int] | None = None) -> Inexact[Array, "q l *batch p m"]:
    """Return the attention matrix alpha[t, s] of the operator, rows t in ``at``; zero for s > t.

    The whole matrix takes L^2 numbers a channel: choose channels first, ``hidden_attention(layer.along(u, channels=slice(3)))``.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The steps t whose rows are wanted, counted from 0, or from the end where negative; by default all of them.

    Returns
    -------
    Array
        What each input u[s] is multiplied by on its way to y[t], in units of output per input.

    Raises
    ------
    ValueError
        If ``at`` is empty or holds something that is not a step of the system.

    References
    ----------
    Ali, Zimerman, Wolf, arXiv 2403.01590 (the matrix, there without D).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import hidden_attention
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.5], [0.25], [0.1]]), B=one, C=one, D=0 * one)
    >>> hidden_attention(sys)[:, :, 0, 0].round(6)
    array([[0.  , 0.  , 0.  ],
           [1.  , 0.  , 0.  ],
           [0.25, 1.  , 0.  ]])
    """
    check_system(sys, DiagonalLTV, "hidden_attention")
    sys = in_double(sys)
    steps = range(sys.length) if at is None else checked_steps(sys, at)
    return sys.xp.stack([padded(operator_row(sys, t), sys.length) for t in steps])


def contributions(sys: DiagonalLTV, *, at: Sequence[int] = (-1,)) -> Float[Array, "q l *batch"]:
    """Return ||alpha[t, s]||_F, the weight with which each token s enters y[t], for t in ``at``.

    With ``driven_by(sys, u)`` for ``sys`` it is the size of what the tokens of u contribute; see `hidden_attention`.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The steps t of the outputs, counted from 0, or from the end where negative; by default the last one.

    Returns
    -------
    Array
        One weight for each step t in ``at`` and each token s, in units of output per input; zero for s > t.

    Raises
    ------
    ValueError
        If ``at`` is empty or holds something that is not a step of the system.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import contributions
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.5], [0.25], [0.1]]), B=-one, C=one, D=0 * one)
    >>> contributions(sys).round(6)
    array([[0.25, 1.  , 0.  ]])
    """
    check_system(sys, DiagonalLTV, "contributions")
    sys = in_double(sys)
    return sys.xp.stack([padded(row_norms(sys, t), sys.length) for t in checked_steps(sys, at)])


def mean_distance(sys: DiagonalLTV, *, at: Sequence[int] = (-1,)) -> Float[Array, "q *batch"]:
    """Return how far back y[t] looks on average, sum_s |alpha[t, s]| (t - s) / sum_s |alpha[t, s]|, for t in ``at``.

    The distance is at most t, and biased by that for memories longer than the text.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The steps t of the outputs, counted from 0, or from the end where negative; by default the last one.

    Returns
    -------
    Array
        The mean distances in tokens (units of dt); NaN where no token enters y[t].

    Raises
    ------
    ValueError
        If ``at`` is empty or holds something that is not a step of the system.

    References
    ----------
    Ben-Kish et al., DeciMamba, arXiv 2406.14528 (the mean distance of hidden attention).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import mean_distance
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.5], [0.25], [0.1]]), B=one, C=one, D=0 * one)
    >>> mean_distance(sys)  # (2 * 0.25 + 1 * 1) / (0.25 + 1)
    array([1.2])
    """
    check_system(sys, DiagonalLTV, "mean_distance")
    sys = in_double(sys)
    return sys.xp.stack([_mean_lag(row_norms(sys, t)) for t in checked_steps(sys, at)]) * sys.dt


def row_norms(sys: DiagonalLTV, t: int) -> Float[Array, "t *batch"]:
    """Return ||alpha[t, s]||_F for s = 0, ..., t, in the precision of the system."""
    row = operator_row(sys, t)
    if sys.ninputs == sys.noutputs == 1:
        return sys.xp.abs(row[..., 0, 0])
    return sys.xp.linalg.vector_norm(row, axis=(-2, -1))


def padded(row: Inexact[Array, "t *rest"], length: int) -> Inexact[Array, "l *rest"]:
    """Return the row with zeros appended for the tokens that come later, up to ``length`` entries."""
    xp, missing = array_namespace(row), length - row.shape[0]
    if missing == 0:
        return row
    return xp.concat([row, xp.broadcast_to(xp.zeros_like(row[:1, ...]), (missing, *row.shape[1:]))])


def _mean_lag(size: Float[Array, "t *batch"]) -> Float[Array, "*batch"]:
    """Return the mean of the lags t - s weighted by ``size``, in steps."""
    xp, t = array_namespace(size), size.shape[0] - 1
    lag = xp.reshape(t - arange(0, t + 1, like=size), (-1, *(1,) * (size.ndim - 1)))
    total = xp.sum(size, axis=0)
    nothing = xp.full_like(total, float("nan"))
    return xp.sum(size * lag, axis=0) / xp.where(total == 0, nothing, total)
