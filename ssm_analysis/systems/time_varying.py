"""Diagonal systems whose matrices change with time. Axis 0 of every field is time."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Inexact

from ssm_analysis.systems.base import System
from ssm_analysis.systems.diagonal import DIAGONAL_AXES, DIAGONAL_HINTS, DiagonalSSM, read_before
from ssm_analysis.xp import Array, matmul


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DiagonalLTV(System):
    r"""x[k+1] = Lambda[k] x[k] + B[k] u[k],  y[k] = C[k] x[k] + D[k] u[k],  Lambda[k] = diag(exp(log_poles[k])).

    What a selective layer (S6, RG-LRU) is along one input. Fields as in `DiagonalSSM` with time as axis 0 of the batch
    axes, ``(L, *batch, n, m)``; they broadcast, so that a C of shape ``(*batch, p, n)`` is constant in time.
    ``batch_shape`` and indexing leave time out.
    """

    log_poles: Inexact[Array, "*#time_batch n"]
    B: Inexact[Array, "*#time_batch n m"]
    C: Inexact[Array, "*#time_batch p n"]
    D: Inexact[Array, "*#time_batch p m"]
    dt: float = 1.0

    AXES: ClassVar[dict[str, str]] = DIAGONAL_AXES
    HINTS: ClassVar[dict[str, str]] = DIAGONAL_HINTS
    TIME_AXES: ClassVar[int] = 1

    @property
    def length(self) -> int:
        """Number of time steps."""
        return self.log_poles.shape[0]

    def poles(self) -> Inexact[Array, "l *batch n"]:
        """Return exp(log_poles): the poles of each moment. They do not decide on stability one by one; their products do."""
        return self.xp.exp(self.log_poles)

    def frozen(self, at: int) -> DiagonalSSM:
        """Return the time-invariant system that keeps the matrices of step ``at`` for ever; a negative step counts from the end."""
        if not -self.length <= at < self.length:
            raise IndexError(f"at must be a step of 0..{self.length - 1}, got {at}")
        fields = {name: getattr(self, name)[at, ...] for name in self.AXES}
        return DiagonalSSM(**fields, dt=self.dt)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class DiagonalRecurrence(System):
    r"""h[k] = Lambda[k] h[k-1] + B[k] u[k],  y[k] = C[k] h[k] + D[k] u[k]: read out after the update.

    The form in which the papers write a selective layer, and the one a trainable layer runs: it never
    forms C Lambda. ``system()`` is the door to control's convention. Values are not checked for NaN here,
    because a forward pass should not wait for that; ``system()`` checks them.
    """

    log_poles: Inexact[Array, "*#time_batch n"]
    B: Inexact[Array, "*#time_batch n m"]
    C: Inexact[Array, "*#time_batch p n"]
    D: Inexact[Array, "*#time_batch p m"]
    dt: float = 1.0

    AXES: ClassVar[dict[str, str]] = DIAGONAL_AXES
    TIME_AXES: ClassVar[int] = 1

    def _check_values(self, name: str, x: Array) -> None:
        pass

    def poles(self) -> Inexact[Array, "l *batch n"]:
        """Return exp(log_poles): the poles of each moment."""
        return self.xp.exp(self.log_poles)

    def system(self) -> DiagonalLTV:
        """Return the same map from u to y in control's convention: (Lambda_k, B_k, C_k Lambda_k, C_k B_k + D_k)."""
        C = read_before(self.log_poles, self.C)
        return DiagonalLTV(log_poles=self.log_poles, B=self.B, C=C, D=matmul(self.C, self.B) + self.D, dt=self.dt)
