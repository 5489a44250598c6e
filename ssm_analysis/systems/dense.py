"""Systems with a full state matrix."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from jaxtyping import Complex, Inexact

from ssm_analysis.systems.base import System
from ssm_analysis.systems.transfer import dense_fractions, transfer_at
from ssm_analysis.xp import Array, imag, is_complex, matmul, real, to_complex, to_numpy

if TYPE_CHECKING:
    import control


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class StateSpace(System):
    r"""x[k+1] = A x[k] + B u[k],  y[k] = C x[k] + D u[k].

    A batch of ``control.ss(A, B, C, D, dt)``, complex where the arrays are.

    Parameters
    ----------
    A, B, C, D
        State, input, output and feed-through matrices; their batch axes broadcast.
    dt
        Sampling period; 1 means one token.

    Raises
    ------
    TypeError
        If the fields are not floating-point arrays of one library.
    ValueError
        If shapes do not fit, an entry is NaN or infinite, or ``dt`` is not positive.
    """

    A: Inexact[Array, "*#batch n n"]
    B: Inexact[Array, "*#batch n m"]
    C: Inexact[Array, "*#batch p n"]
    D: Inexact[Array, "*#batch p m"]
    dt: float = 1.0

    AXES: ClassVar[dict[str, str]] = {"A": "nn", "B": "nm", "C": "pn", "D": "pm"}

    @classmethod
    def from_recurrence(cls, *, A: Array, B: Array, C: Array, D: Array, dt: float = 1.0) -> "StateSpace":
        """Return the system of ``h[k] = A h[k-1] + B u[k]``, ``y[k] = C h[k] + D u[k]``: (A, B, C A, C B + D)."""
        sys = cls(A=A, B=B, C=C, D=D, dt=dt)
        return replace(sys, C=matmul(sys.C, sys.A), D=matmul(sys.C, sys.B) + sys.D)

    def poles(self) -> Complex[Array, "*batch n"]:
        """Return eigenvalues of A, in the precision of A.

        They are as good as A's conditioning allows: an error of eps ||A|| in A moves an eigenvalue by its
        condition number times that. For S4 it can exceed 1e40; see ``Layer.spectrum``.
        """
        return to_complex(self.xp.linalg.eigvals(self.A))  # numpy's are real where all of them happen to be

    def __call__(self, z: complex | Array) -> Array:
        """Return G(z) = C (z - A)^{-1} B + D: (*batch, p, m) at a number z, (*batch, *z.shape, p, m) at an array."""
        return transfer_at(self, z)

    def strictly_proper(self, z: Complex[Array, " f"]) -> Complex[Array, "*batch f p m"]:
        """Return C (z - A)^{-1} B at many points, in 64 bits."""
        return dense_fractions(self.A, self.B, self.C, z)

    def to_dense(self) -> "StateSpace":
        """Return the system itself."""
        return self

    def to_control(self) -> "control.StateSpace":
        """Return the same system as a ``control.StateSpace``.

        Raises
        ------
        ValueError
            If this is a batch of several systems, or if a matrix has imaginary parts: python-control would
            drop them and answer for another system.
        """
        import control

        if self.batch_shape:
            raise ValueError(
                f"to_control() takes one system, got the batch shape {self.batch_shape}; index it first, e.g. sys[0].to_control()"
            )
        matrices = {name: getattr(self, name) for name in self.AXES}
        complex_fields = [name for name, M in matrices.items() if is_complex(M) and bool(self.xp.any(imag(M) != 0))]
        if complex_fields:
            raise ValueError(
                f"python-control has real matrices only and would drop the imaginary parts of {', '.join(complex_fields)}; "
                "hand over a system with a real kernel (RealDiagonalSSM.to_control(), or a DiagonalSSM whose modes come "
                "in conjugate pairs)"
            )
        return control.StateSpace(*(to_numpy(real(M)) for M in matrices.values()), self.dt)


def transform(sys: StateSpace, T: Array, T_inverse: Array) -> StateSpace:
    """Return the system with the same input-output behavior in the state T x: (T A T^{-1}, T B, C T^{-1}, D)."""
    A = matmul(matmul(T, sys.A), T_inverse)
    return StateSpace(A=A, B=matmul(T, sys.B), C=matmul(sys.C, T_inverse), D=sys.D, dt=sys.dt)
