r"""How much of each token is left, and how many tokens back a time-varying system reaches along its input.

Retention is about the state: |lambda[t] ... lambda[s+1]| of what token s wrote is left after token t. The receptive field is about
the output: retention weighted by what B[s] writes and C[t] reads, as in `hidden_attention`. For one t both take L numbers a state,
never L x L.
"""

from collections.abc import Sequence

from jaxtyping import Float

from ssm_analysis.analyses.along.attention import padded, row_norms
from ssm_analysis.analyses.along.transitions import checked_steps, log_products
from ssm_analysis.systems import DiagonalLTV
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, abs2, array_namespace, real, stop_gradient

SHARES = (0.5, 0.9, 0.99)
"""Shares of the energy of an output whose receptive fields are given where none are asked for."""


def retention(sys: DiagonalLTV, *, at: Sequence[int] = (-1,)) -> Float[Array, "q l *batch n"]:
    """Return what is left after token t of what token s wrote into each state, |lambda[t] ... lambda[s+1]|, for t in ``at``.

    For each t this takes as much memory as the log-poles: take windows of channels of a large layer,
    ``layer.windows(u, channels=128)``.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The tokens t, counted from 0, or from the end where negative; by default the last one.

    Returns
    -------
    Array
        A factor, dimensionless, for each t in ``at``, each token s and each state: 1 for s = t, 0 for s > t.

    Raises
    ------
    ValueError
        If ``at`` is empty or holds something that is not a step of the system.

    References
    ----------
    Chen et al., Stuffed Mamba, arXiv 2410.07145 (the memory retention of a token along t).

    Examples
    --------
    >>> from ssm_analysis.analyses.along import retention
    >>> one = np.ones((3, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.log([[0.5], [0.25], [0.1]]), B=one, C=one, D=0 * one)
    >>> retention(sys)[0, :, 0].round(6)
    array([0.025, 0.1  , 1.   ])
    """
    check_system(sys, DiagonalLTV, "retention")
    sys = in_double(sys)
    return sys.xp.stack([padded(sys.xp.exp(log_products(real(sys.log_poles)[: t + 1, ...])), sys.length) for t in checked_steps(sys, at)])


def receptive_field(sys: DiagonalLTV, *, at: Sequence[int] = (-1,), shares: Sequence[float] = SHARES) -> Float[Array, "q *batch shares"]:
    """Return how many tokens back from t the inputs lie that carry a share of the variance of y[t], for t in ``at``.

    It is the smallest T with sum_{s >= t-T} ||alpha[t, s]||_F^2 >= share sum_s ||alpha[t, s]||_F^2, the `horizon` of a time-varying
    system along its input, if the inputs were white. With ``driven_by(sys, u)`` for ``sys`` it is about the energy of what the
    tokens of u contribute, cancellation aside. As T is an integer, constant between its jumps, the field has no gradient.

    Parameters
    ----------
    sys
        A time-varying diagonal system, ``layer.along(u)`` of a selective layer.
    at
        The steps t of the outputs, counted from 0, or from the end where negative; by default the last one.
    shares
        Shares of the variance, each between 0 and 1, both excluded.

    Returns
    -------
    Array
        The fields in tokens (units of dt), at most t, one for each share along the last axis; NaN where no token enters y[t].

    Raises
    ------
    ValueError
        If a share does not lie between 0 and 1, or ``at`` is empty or holds something that is not a step of the system.

    References
    ----------
    Ali, Zimerman, Wolf, arXiv 2403.01590 (the weights alpha); the share of their energy is the definition of this package.

    Examples
    --------
    >>> from ssm_analysis.analyses.along import receptive_field
    >>> one = np.ones((100, 1, 1))
    >>> sys = DiagonalLTV(log_poles=np.full((100, 1), -0.1), B=one, C=one, D=0 * one)
    >>> receptive_field(sys, shares=(0.5, 0.9))  # log(2) / 0.2, log(10) / 0.2
    array([[ 4., 12.]])
    """
    check_system(sys, DiagonalLTV, "receptive_field")
    if len(shares) == 0 or any(not 0 < share < 1 for share in shares):
        raise ValueError(f"shares must lie between 0 and 1, both excluded, got {tuple(shares)}")
    sys = in_double(sys).map(stop_gradient)
    rows = [_field_of(row_norms(sys, t), shares) for t in checked_steps(sys, at)]
    return sys.xp.stack(rows) * sys.dt


def _field_of(size: Float[Array, "t *batch"], shares: Sequence[float]) -> Float[Array, "*batch shares"]:
    """Return how many tokens follow the one at which the energy, summed from the oldest, first exceeds 1 - share of the whole."""
    xp = array_namespace(size)
    largest = xp.max(size, axis=0)
    nothing = (largest == 0) | ~xp.isfinite(largest)  # or more than can be told apart
    passed = xp.cumulative_sum(abs2(size / xp.where(nothing, xp.ones_like(largest), largest)), axis=0)
    counts = [xp.sum(xp.astype(passed > (1 - share) * passed[-1:, ...], size.dtype), axis=0) for share in shares]
    field = xp.stack(counts, axis=-1) - 1
    return xp.where(nothing[..., None], xp.full_like(field, float("nan")), field)
