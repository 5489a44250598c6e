"""Diagonal systems of which the real part is taken: S4D, S5 and LRU as their papers write them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Complex, Float, Inexact

from ssm_analysis.systems.base import System, in_double
from ssm_analysis.systems.conjugates import Modes, both_of_each_pair, real_matrices
from ssm_analysis.systems.dense import StateSpace
from ssm_analysis.systems.diagonal import DIAGONAL_AXES, DIAGONAL_HINTS, DiagonalSSM, read_before
from ssm_analysis.systems.transfer import partial_fractions, residues, transfer_at
from ssm_analysis.xp import Array, is_complex, matmul, real

if TYPE_CHECKING:
    import control


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RealDiagonalSSM(System):
    r"""x[k+1] = Lambda x[k] + B u[k],  y[k] = Re(C x[k]) + D u[k],  with real u and D.

    It stores one of each pair of conjugate modes: the system behind it, ``expand()``, has the transfer
    function (G(z) + conj G(conj z)) / 2 and up to 2 n states. A factor 2 in front of Re belongs into C.

    Parameters
    ----------
    log_poles, B, C
        As in `DiagonalSSM`, one of each conjugate pair.
    D
        Real feed-through.
    dt
        Sampling period; 1 means one token.

    Raises
    ------
    TypeError
        If the fields are not floating-point arrays of one library, or D is complex.
    ValueError
        If shapes do not fit, an entry is NaN or infinite, or ``dt`` is not positive.
    """

    log_poles: Inexact[Array, "*#batch n"]
    B: Inexact[Array, "*#batch n m"]
    C: Inexact[Array, "*#batch p n"]
    D: Float[Array, "*#batch p m"]
    dt: float = 1.0

    AXES: ClassVar[dict[str, str]] = DIAGONAL_AXES
    HINTS: ClassVar[dict[str, str]] = DIAGONAL_HINTS

    def _check_values(self, name: str, x: Array) -> None:
        super()._check_values(name, x)
        if name == "D" and is_complex(x):
            raise TypeError(f"D of a RealDiagonalSSM must be real, got {x.dtype}")

    @classmethod
    def from_recurrence(cls, *, log_poles: Array, B: Array, C: Array, D: Array, dt: float = 1.0) -> "RealDiagonalSSM":
        """Return the system of ``h[k] = Lambda h[k-1] + B u[k]``, ``y[k] = Re(C h[k]) + D u[k]``.

        Its matrices are ``(Lambda, B, C Lambda, Re(C B) + D)``.
        """
        sys = cls(log_poles=log_poles, B=B, C=C, D=D, dt=dt)
        return replace(sys, C=read_before(sys.log_poles, sys.C), D=real(matmul(sys.C, sys.B)) + sys.D)

    def poles(self) -> Inexact[Array, "*batch n"]:
        """Return exp(log_poles): one of each conjugate pair. ``expand().poles()`` lists both."""
        return self.xp.exp(self.log_poles)

    def __call__(self, z: complex | Array) -> Array:
        """Return (G(z) + conj G(conj z)) / 2 + D: (*batch, p, m) at a number z, (*batch, *z.shape, p, m) at an array."""
        return transfer_at(self, z)

    def strictly_proper(self, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
        """Return (C (z - Lambda)^{-1} B + conj(C (conj z - Lambda)^{-1} B)) / 2 at many points, in 64 bits."""
        G = partial_fractions(self.poles(), residues(self) / 2, z, conjugates=True)
        return self.xp.reshape(G, (*G.shape[:-1], self.noutputs, self.ninputs))

    @property
    def modes(self) -> Modes:
        """One of each conjugate pair of modes."""
        return Modes(self.log_poles, self.B, self.C)

    def expand(self) -> DiagonalSSM:
        """Return the same system with both modes of each pair written out; modes that are real stay single.

        Its gradients keep those modes real: the direction in which a pole leaves the real axis is not followed.
        """
        mu, B, C = both_of_each_pair(self.modes)
        return DiagonalSSM(log_poles=mu, B=B, C=C, D=self.D, dt=self.dt)

    def to_dense(self) -> StateSpace:
        """Return the equivalent system with real matrices: a 2 x 2 block for each pair, one entry for each real mode."""
        A, B, C = real_matrices(self.modes)
        return StateSpace(A=A, B=B, C=C, D=self.D, dt=self.dt)

    def to_control(self) -> "control.StateSpace":
        """Return the equivalent ``control.StateSpace``; raises a ValueError for a batch of several systems."""
        return in_double(self).to_dense().to_control()
