"""Analyses as losses: differentiable penalties for training, one number for each system of the batch.

The norms are differentiable themselves; what follows is what they lack: smooth at 0, or a sum where a maximum would see one
mode only. Build the system inside the forward pass, ``hankel_nuclear_norm(family.system(params)).sum()``: a system holds
the parameters as they were when it was made.

References
----------
Forgione, Mejari, Piga, Model order reduction of deep structured state-space models, arXiv 2403.14833 (Hankel nuclear norm,
modal l1); Schwerdtner, Berman, Peherstorfer, arXiv 2510.22951 (the sum of the Hankel singular values).
"""

from jaxtyping import Float

from ssm_analysis.analyses.gramians.energy import kernel_energy
from ssm_analysis.analyses.gramians.hankel import hsv
from ssm_analysis.analyses.spectrum.modes import KINDS, rates
from ssm_analysis.systems import LTI
from ssm_analysis.systems.base import System, check_system, in_double
from ssm_analysis.xp import Array


def h2_norm_squared(sys: LTI) -> Float[Array, "*batch"]:
    """Return the squared H2 norm sum_k ||K[k]||_F^2, the variance of the output for white input.

    It is smooth where the norm, its root, is 0. For an unstable system it is infinite, without a useful gradient.

    Parameters
    ----------
    sys
        A time-invariant system.

    Returns
    -------
    Array
        The squared norm of each system, in squared units of output per input.

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system.

    References
    ----------
    Antoulas, Approximation of Large-Scale Dynamical Systems, SIAM (2005), section 5.5 (the H2 norm by Gramians).

    Examples
    --------
    >>> from ssm_analysis.analyses.norms.losses import h2_norm_squared
    >>> one = np.ones((1, 1))
    >>> float(h2_norm_squared(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)).round(6))
    1.333333
    """
    return kernel_energy(sys)


def hankel_nuclear_norm(sys: LTI) -> Float[Array, "*batch"]:
    """Return the sum of the Hankel singular values, small where few states carry the map: training with it prepares a reduction.

    Twice this sum, without the values that are kept, bounds the error of balanced truncation.

    Parameters
    ----------
    sys
        A stable time-invariant system. For a `RealDiagonalSSM` the answer is that of its ``expand()``.

    Returns
    -------
    Array
        The sum for each system, in units of output per input.

    Raises
    ------
    ValueError
        If a system is not stable: its Hankel singular values do not exist.

    References
    ----------
    Forgione, Mejari, Piga, arXiv 2403.14833; Schwerdtner, Berman, Peherstorfer, arXiv 2510.22951.

    Examples
    --------
    >>> from ssm_analysis.analyses.norms.losses import hankel_nuclear_norm
    >>> one = np.ones((1, 1))
    >>> float(hankel_nuclear_norm(DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)).round(6))  # 1 / (1 - 1/4)
    1.333333
    """
    sigma = hsv(sys)
    return sys.xp.sum(sigma, axis=-1)


def modal_l1(sys: System) -> Float[Array, "*batch"]:
    """Return |lambda_1| + ... + |lambda_n|, a penalty that pushes modes to 0, where they can be left out.

    Parameters
    ----------
    sys
        Any system. Each stored mode of a `RealDiagonalSSM` counts once.

    Returns
    -------
    Array
        The sum for each system, dimensionless; time-varying systems have one sum for each moment.

    References
    ----------
    Forgione, Mejari, Piga, arXiv 2403.14833 (modal l1).

    Examples
    --------
    >>> from ssm_analysis.analyses.norms.losses import modal_l1
    >>> one = np.ones((1, 2))
    >>> float(modal_l1(DiagonalSSM(log_poles=np.log([0.5, 0.25]), B=np.ones((2, 1)), C=one, D=np.ones((1, 1)))).round(6))
    0.75
    """
    check_system(sys, KINDS, "modal_l1")
    return sys.xp.sum(sys.xp.exp(-rates(in_double(sys))), axis=-1)


def margin_penalty(sys: System, *, margin: float) -> Float[Array, "*batch"]:
    """Return sum_i max(0, margin - (1 - |lambda_i|))^2, which is 0 while every mode keeps that distance from the unit circle.

    Parameters
    ----------
    sys
        Any system. Each stored mode of a `RealDiagonalSSM` counts once.
    margin
        The wanted distance from the unit circle, between 0 and 1, both excluded.

    Returns
    -------
    Array
        The penalty for each system, dimensionless; time-varying systems have one for each moment.

    Raises
    ------
    ValueError
        If ``margin`` is not between 0 and 1.

    Examples
    --------
    >>> from ssm_analysis.analyses.norms.losses import margin_penalty
    >>> one = np.ones((1, 1))
    >>> float(margin_penalty(DiagonalSSM(log_poles=np.log([0.75]), B=one, C=one, D=0 * one), margin=0.5).round(6))
    0.0625
    """
    check_system(sys, KINDS, "margin_penalty")
    if not 0 < margin < 1:
        raise ValueError(f"margin must lie between 0 and 1, both excluded, got {margin}")
    xp = sys.xp
    missing = margin + xp.expm1(-rates(in_double(sys)))
    return xp.sum(xp.where(missing > 0, missing, xp.zeros_like(missing)) ** 2, axis=-1)
