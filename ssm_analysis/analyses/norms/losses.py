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
    """||G||_2^2 = sum_k ||K[k]||_F^2: the variance of the output for white input. Smooth where the norm, its root, is 0 and is not.

    Infinite, without a useful gradient, for an unstable system.

    Raises
    ------
    TypeError
        If ``sys`` is not a time-invariant system.
    """
    return kernel_energy(sys)


def hankel_nuclear_norm(sys: LTI) -> Float[Array, "*batch"]:
    """sigma_1 + ... + sigma_n: small where few states carry the map, so that training with it prepares a reduction.

    Twice this sum, without the values that are kept, bounds the error of balanced truncation. That of a `RealDiagonalSSM` is
    that of its ``expand()``.

    Raises
    ------
    ValueError
        If a system is not stable: its Hankel singular values do not exist.

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
    """|lambda_1| + ... + |lambda_n|: pushes modes to 0, where they can be left out.

    Each stored mode of a `RealDiagonalSSM` counts once. Time-varying systems have one sum for each moment.

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
    """sum_i max(0, margin - (1 - |lambda_i|))^2: 0 while every mode keeps that distance from the circle.

    Each stored mode of a `RealDiagonalSSM` counts once. Time-varying systems have one sum for each moment.

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
