"""The same system written differently, and derivatives: laws that hold for every analysis.

>>> for twin in twins(sys).values():
...     np.testing.assert_allclose(analysis(twin), analysis(sys), rtol=1e-12)
"""

from dataclasses import replace

import array_api_strict as strict
import numpy as np
import torch

from ssm_analysis import DiagonalSSM, RealDiagonalSSM, StateSpace

DIFFERENTIABLE = [
    "complex_siso",
    "complex_mimo",
    "diagonal_real_siso",
    "realpart_siso",
    "realpart_mimo",
    "realpart_real_modes",
    "dense_siso",
    "dense_mimo",
    "dense_complex",
]
"""Names of systems with simple poles, of each kind, that are not too large for finite differences."""


def in_strict(sys):
    """The same system in a library that has nothing but the Array API standard."""
    return sys.map(lambda x: strict.asarray(np.array(x)))


def in_single(sys):
    """The same system rounded to 32 bits."""
    return sys.map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))


def lifted(sys):
    """The same numbers in 64 bits: what every analysis answers for a system in 32."""
    return sys.map(lambda x: x.astype(np.complex128 if np.iscomplexobj(x) else np.float64))


def scaled(sys, seed=1):
    """The states multiplied by numbers of very different sizes, complex where the system is."""
    rng = np.random.default_rng(seed)
    t = 2.0 ** rng.integers(-20, 21, size=sys.nstates)
    if isinstance(sys, StateSpace):
        return replace(sys, A=t[:, None] * sys.A / t, B=t[:, None] * sys.B, C=sys.C / t)
    if np.iscomplexobj(sys.B):
        t = t * 1j ** rng.integers(0, 4, size=sys.nstates)
    return replace(sys, B=t[:, None] * sys.B, C=sys.C / t)


def permuted(sys, seed=2):
    """The states in another order."""
    p = np.random.default_rng(seed).permutation(sys.nstates)
    if isinstance(sys, StateSpace):
        return replace(sys, A=sys.A[..., p, :][..., :, p], B=sys.B[..., p, :], C=sys.C[..., p])
    return replace(sys, log_poles=sys.log_poles[..., p], B=sys.B[..., p, :], C=sys.C[..., p])


def rotated(sys, seed=3):
    """A full system with its states mixed by a random orthogonal matrix."""
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(sys.nstates, sys.nstates)))[0]
    return replace(sys, A=Q @ sys.A @ Q.T, B=Q @ sys.B, C=sys.C @ Q.T)


def twins(sys):
    """The same input-output behavior: states scaled, permuted; all modes written out; full matrices, mixed."""
    found = {"scaled": scaled(sys), "permuted": permuted(sys)}
    if isinstance(sys, RealDiagonalSSM):
        found["expanded"] = sys.expand()
    if isinstance(sys, StateSpace):
        found["rotated"] = rotated(sys)
    else:
        found["dense"] = sys.to_dense()
        found["rotated"] = rotated(sys.to_dense())
    return found


def transposed(sys):
    """(A', B', C', D') -> (A^T, C^T, B^T, D^T): every Markov parameter transposed."""
    B, C, D = (np.matrix_transpose(x) for x in (sys.C, sys.B, sys.D))
    if isinstance(sys, StateSpace):
        return replace(sys, A=np.matrix_transpose(sys.A), B=B, C=C, D=D)
    return replace(sys, B=B, C=C, D=D)


def side_by_side(sys, other):
    """The parallel connection of two systems with the same inputs and outputs: the sum of their kernels."""
    fields = {"B": np.concatenate([sys.B, other.B], axis=-2), "C": np.concatenate([sys.C, other.C], axis=-1), "D": sys.D + other.D}
    return DiagonalSSM(log_poles=np.concatenate([sys.log_poles, other.log_poles], axis=-1), **fields)


def gradients_are_right(f, sys, *, fields=None):
    """Compare derivatives of ``f`` by the fields of ``sys``, or some of them, with finite differences along random directions."""
    names = list(fields or sys.AXES)
    given = [torch.tensor(np.array(getattr(sys, name)), requires_grad=True) for name in names]
    others = {name: torch.tensor(np.array(getattr(sys, name))) for name in sys.AXES if name not in names}

    def of_fields(*x):
        return f(type(sys)(**dict(zip(names, x, strict=True)), **others, dt=sys.dt))

    torch.manual_seed(0)  # of the directions
    return torch.autograd.gradcheck(of_fields, given, fast_mode=True)
