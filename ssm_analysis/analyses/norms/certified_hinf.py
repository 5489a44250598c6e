"""Two-sided bounds of the peak gain by branch and bound over the frequency circle.

Each arc carries an upper bound of the gain on it (`arc_enclosures`); arcs whose bound exceeds the largest gain seen
by more than the tolerance are halved. This is numpy code, as the number of arcs depends on the data.
"""

import math

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.norms.arc_enclosures import SAFE, Enclose, dense_arcs, matrix_arcs, proved_stable, scalar_arcs
from ssm_analysis.analyses.responses.gains import all_modes, has_real_kernel
from ssm_analysis.systems import LTI, StateSpace
from ssm_analysis.xp import to_numpy

ARCS = 128
"""Arcs to begin with around the circle."""
BUDGET = 10**5
"""Arcs per system, on average, at most. Then the bounds stay as they are: true, but wider than asked for."""
OUTSIDE = math.nextafter(math.pi, 4.0)
"""The double above pi; math.pi lies below it."""

PerSystem = Float[np.ndarray, " s"]


def peak_bounds(sys: LTI, theta: PerSystem, *, rtol: float) -> tuple[PerSystem, PerSystem]:
    """Return lower and upper bounds of the peak gain, for a batch with one axis, stable and in 64 bits.

    Parameters
    ----------
    sys
        The systems. Where it cannot be proved that a full A is stable, the upper bound is infinite.
    theta
        For each system an angle in rad/step near its peak; any will do, a good one saves arcs.
    rtol
        The relative distance of the bounds at which arcs are no longer halved.

    Returns
    -------
    tuple
        The lower and the upper bounds, one for each system, in units of output per input.
    """
    if not len(theta):
        return theta, theta
    whole = all_modes(sys)
    fields = {name: to_numpy(getattr(whole, name)) for name in whole.AXES}
    proved = np.array(True)
    if isinstance(whole, StateSpace):
        enclose, proved = dense_arcs(**fields), np.array([proved_stable(A) for A in fields["A"]])
    elif whole.ninputs == whole.noutputs == 1:
        enclose = scalar_arcs(**fields)
    else:
        enclose = matrix_arcs(**fields)
    nothing = np.zeros_like(theta)
    lower = np.maximum(enclose(np.arange(len(theta)), theta, nothing, nothing).low, 0)
    lower, upper = _branch_and_bound(enclose, lower, rtol=rtol, half=has_real_kernel(sys))
    return lower, np.where(proved, upper, math.inf)


def _branch_and_bound(enclose: Enclose, lower: PerSystem, *, rtol: float, half: bool) -> tuple[PerSystem, PerSystem]:
    """Return ``lower`` raised and an upper bound of the gain on the circle, or on its upper ``half`` where the kernel is real."""
    count, spent, upper = len(lower), 0, np.zeros_like(lower)
    edges = np.linspace(0.0 if half else -OUTSIDE, OUTSIDE, (ARCS // 2 if half else ARCS) + 1)
    owner = np.repeat(np.arange(count), len(edges) - 1)
    left, right = np.tile(edges[:-1], count), np.tile(edges[1:], count)
    while len(owner):
        spent += len(owner)
        center = (left + right) / 2
        gains = enclose(owner, center, np.maximum(right - center, center - left) * SAFE, lower[owner] * (1 + rtol))
        np.maximum.at(lower, owner, gains.low)
        split = (gains.high > lower[owner] * (1 + rtol)) & gains.improvable & (left < center) & (center < right) & (spent < BUDGET * count)
        np.maximum.at(upper, owner[~split], gains.high[~split])
        owner = np.repeat(owner[split], 2)
        left, right = np.stack([left, center], -1)[split].ravel(), np.stack([center, right], -1)[split].ravel()
    return lower, np.maximum(upper, lower)
