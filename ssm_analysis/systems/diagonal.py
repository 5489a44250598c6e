"""Diagonal systems on log-poles: Lambda = diag(exp(log_poles))."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from jaxtyping import Complex, Inexact

from ssm_analysis.systems.base import System, in_double
from ssm_analysis.systems.conjugates import Modes, one_of_each_pair, real_matrices, refusal
from ssm_analysis.systems.dense import StateSpace
from ssm_analysis.systems.transfer import partial_fractions, residues, transfer_at
from ssm_analysis.xp import Array, array_namespace, diag, matmul, real, to_numpy

if TYPE_CHECKING:
    import control

DIAGONAL_AXES = {"log_poles": "n", "B": "nm", "C": "pn", "D": "pm"}
DIAGONAL_HINTS = {"log_poles": "; a pole at exactly 0 has no logarithm, use a StateSpace"}


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DiagonalSSM(System):
    r"""x[k+1] = Lambda x[k] + B u[k],  y[k] = C x[k] + D u[k],  Lambda = diag(exp(log_poles)).

    A batch of ``control.ss(diag(poles), B, C, D, dt)``, complex where the arrays are. The poles are kept as
    their logarithms, so that a margin 1 - |lambda| = -expm1(Re log_poles) never suffers cancellation.

    Parameters
    ----------
    log_poles
        log(lambda), dimensionless; the imaginary part, rad/token for ``dt`` = 1, may exceed pi.
    B, C, D
        Input, output and feed-through matrices; their batch axes broadcast against those of ``log_poles``.
    dt
        Sampling period; 1 means one token.

    Raises
    ------
    TypeError
        If the fields are not floating-point arrays of one library.
    ValueError
        If shapes do not fit, an entry is NaN or infinite, or ``dt`` is not positive.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> sys = DiagonalSSM(log_poles=np.log([0.5]), B=one, C=one, D=0 * one)  # 1/(z - 0.5)
    >>> sys(1.0)
    array([[2.+0.j]])
    """

    log_poles: Inexact[Array, "*#batch n"]
    B: Inexact[Array, "*#batch n m"]
    C: Inexact[Array, "*#batch p n"]
    D: Inexact[Array, "*#batch p m"]
    dt: float = 1.0

    AXES: ClassVar[dict[str, str]] = DIAGONAL_AXES
    HINTS: ClassVar[dict[str, str]] = DIAGONAL_HINTS

    @classmethod
    def from_recurrence(cls, *, log_poles: Array, B: Array, C: Array, D: Array, dt: float = 1.0) -> "DiagonalSSM":
        """Return the system of a recurrence that is read out after the update, as the papers write it.

        ``h[k] = Lambda h[k-1] + B u[k]``, ``y[k] = C h[k] + D u[k]`` has the state ``x[k] = h[k-1]`` and the
        matrices ``(Lambda, B, C Lambda, C B + D)``.
        """
        sys = cls(log_poles=log_poles, B=B, C=C, D=D, dt=dt)
        return replace(sys, C=read_before(sys.log_poles, sys.C), D=matmul(sys.C, sys.B) + sys.D)

    def poles(self) -> Inexact[Array, "*batch n"]:
        """Return exp(log_poles)."""
        return self.xp.exp(self.log_poles)

    def __call__(self, z: complex | Array) -> Array:
        """Return G(z) = C (z - Lambda)^{-1} B + D: (*batch, p, m) at a number z, (*batch, *z.shape, p, m) at an array."""
        return transfer_at(self, z)

    def strictly_proper(self, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
        """Return C (z - Lambda)^{-1} B at many points, in 64 bits."""
        G = partial_fractions(self.poles(), residues(self), z)
        return self.xp.reshape(G, (*G.shape[:-1], self.noutputs, self.ninputs))

    def to_dense(self) -> StateSpace:
        """Return the same system with A = Lambda written out."""
        return StateSpace(A=diag(self.poles()), B=self.B, C=self.C, D=self.D, dt=self.dt)

    def to_control(self) -> "control.StateSpace":
        """Return the equivalent ``control.StateSpace`` with real matrices.

        Raises
        ------
        ValueError
            If this is a batch of several systems, or if the kernel is not real: python-control would drop the
            imaginary parts and answer for another system.
        """
        if self.batch_shape:
            raise ValueError(
                f"to_control() takes one system, got the batch shape {self.batch_shape}; index it first, e.g. sys[0].to_control()"
            )
        unit = max(float(self.xp.finfo(real(getattr(self, name)).dtype).eps) for name in self.AXES)
        mu, B, C, D = (to_numpy(getattr(in_double(self), name)) for name in self.AXES)
        if np.any(np.imag(D) != 0):
            raise ValueError(refusal("D is complex"))
        A, B, C = real_matrices(one_of_each_pair(Modes(mu, B, C), unit=unit))
        return StateSpace(A=A, B=B, C=C, D=np.real(D), dt=self.dt).to_control()


def read_before(log_poles: Array, C: Array) -> Array:
    """Return C Lambda: the read-out that sees the state before the update instead of after it."""
    return C * array_namespace(log_poles).exp(log_poles)[..., None, :]
