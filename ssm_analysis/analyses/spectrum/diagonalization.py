r"""From a full state matrix back to modes: A = V Lambda V^{-1}, x = V h.

This is how a reduced S4D, S5 or LRU layer stays in its family. It is as good as V is conditioned, so the condition number
comes with the answer; a matrix without a basis of eigenvectors is refused.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import check_system, in_double
from ssm_analysis.xp import Array, array_namespace, device, imag, is_complex, matmul, stop_gradient, to_complex, to_numpy

EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False, kw_only=True)
class Diagonalization:
    """A system in modal coordinates.

    Parameters
    ----------
    system
        With eigenvectors of unit length. Of a real system one mode of each conjugate pair, read as y = Re(C h) + D u.
    condition
        ||V|| ||V^{-1}||, dimensionless: rounding errors of A, B and C are amplified by up to this factor.
    """

    system: DiagonalSSM | RealDiagonalSSM
    condition: Float[Array, "*batch"]


def diagonalized(sys: StateSpace) -> Diagonalization:
    r"""Return lambda = V^{-1} A V, V^{-1} B, C V: the same transfer function with a diagonal state matrix.

    Same as ``control.canonical_form(sys, "modal")``, but with complex modes instead of 2 x 2 blocks, for a batch. A real system becomes a
    `RealDiagonalSSM`, a complex one a `DiagonalSSM`.

    Parameters
    ----------
    sys
        Of a batch of real systems each must have as many real poles.

    Raises
    ------
    ValueError
        If the eigenvectors are dependent to 64 bits, a pole is exactly 0 (it has no logarithm), or the numbers of real poles differ.

    Examples
    --------
    >>> from ssm_analysis.analyses.spectrum.diagonalization import diagonalized
    >>> sys = StateSpace(A=np.asarray([[0.0, 0.81], [-1.0, 0.0]]), B=np.eye(2), C=np.eye(2), D=np.zeros((2, 2)))
    >>> modes = diagonalized(sys)  # poles +-0.9i
    >>> modes.system.poles().round(6), float(modes.condition.round(6))
    (array([0.+0.9j]), 1.111111)
    """
    check_system(sys, StateSpace, "diagonalized")
    sys = in_double(sys)
    xp = sys.xp
    poles, V = xp.linalg.eig(sys.A)
    poles, V = to_complex(poles), to_complex(V)
    V = V / xp.linalg.vector_norm(V, axis=-2, keepdims=True)
    singular = xp.linalg.svdvals(V)
    _check_modes(stop_gradient(poles), stop_gradient(singular))
    modes = {"B": xp.linalg.solve(V, to_complex(sys.B)), "C": matmul(sys.C, V), "log_poles": xp.log(poles)}
    condition = singular[..., 0] / singular[..., -1]
    if any(is_complex(getattr(sys, name)) for name in sys.AXES):
        return Diagonalization(system=DiagonalSSM(**modes, D=sys.D, dt=sys.dt), condition=condition)
    index, weight = _one_of_each_pair(poles)
    B = xp.take_along_axis(modes["B"], index[..., :, None], axis=-2)
    C = xp.take_along_axis(modes["C"], index[..., None, :], axis=-1) * weight[..., None, :]  # exactly real for a real pole: a single mode
    mu = xp.take_along_axis(modes["log_poles"], index, axis=-1)
    return Diagonalization(system=RealDiagonalSSM(log_poles=mu, B=B, C=C, D=sys.D, dt=sys.dt), condition=condition)


def _check_modes(poles: Inexact[Array, "*batch n"], singular: Float[Array, "*batch n"]) -> None:
    xp, n = array_namespace(poles), poles.shape[-1]
    if bool(xp.any(singular[..., -1] <= n * EPS * singular[..., 0])):
        raise ValueError(
            "the eigenvectors of A are dependent to 64 bits, so it has no diagonal form that means anything; "
            "keep the StateSpace, or reduce it by balanced_truncation, which needs no eigenvectors"
        )
    if bool(xp.any(poles == 0)):
        raise ValueError("a pole at exactly 0 has no logarithm, so the system has no diagonal form on log-poles; keep the StateSpace")


def _one_of_each_pair(poles: Inexact[Array, "*batch n"]) -> tuple[Array, Array]:
    """Return indices of the poles with Im >= 0, pairs first, and 2 for a pair, 1 for a real pole (LAPACK's conjugates are exact)."""
    xp = array_namespace(poles)
    angle = to_numpy(imag(poles))
    count = np.unique(np.sum(angle == 0, axis=-1))
    if len(count) > 1:
        raise ValueError(f"every system of a batch must have as many real poles, got from {count[0]} to {count[-1]}; index the batch")
    index = np.argsort(-np.sign(angle), axis=-1, stable=True)[..., : (angle.shape[-1] + int(count[0])) // 2]
    weight = np.where(np.take_along_axis(angle, index, axis=-1) > 0, 2.0, 1.0)
    return xp.asarray(index, device=device(poles)), xp.asarray(weight, device=device(poles))
