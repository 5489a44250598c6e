"""Small systems, by name, on which laws are tested, and the same systems as plain matrices.

>>> @pytest.mark.parametrize("name", STABLE)
... def test_law(name):
...     sys = STABLE[name]

``STABLE`` and ``UNSTABLE`` hold time-invariant systems in float64 or complex128 on numpy, ``TIME_VARYING`` the others;
``in_torch(sys)`` is the same system on torch.
"""

import numpy as np
import torch

from ssm_analysis import DiagonalLTV, DiagonalRecurrence, DiagonalSSM, RealDiagonalSSM, StateSpace

LENGTH = 11
"""Time steps of the time-varying systems."""


def in_torch(sys):
    """The same system with torch tensors of its own."""
    return sys.map(lambda x: torch.tensor(np.array(x)))


def matrices(sys, index=()):
    """A, B, C, D of one system of the batch, complex, written from the definitions; a real-part system is doubled."""
    B, C, D = (np.asarray(x, dtype=complex)[index] for x in (sys.B, sys.C, sys.D))
    if isinstance(sys, StateSpace):
        return np.asarray(sys.A, dtype=complex)[index], B, C, D
    A = np.diag(np.exp(np.asarray(sys.log_poles, dtype=complex)[index]))
    if isinstance(sys, DiagonalSSM):
        return A, B, C, D
    zero = np.zeros_like(A)
    return np.block([[A, zero], [zero, A.conj()]]), np.concatenate([B, B.conj()]), np.concatenate([C, C.conj()], axis=1) / 2, D


def loop(A, B, C, D, u):
    """x[k+1] = A[k] x[k] + B[k] u[k],  y[k] = C[k] x[k] + D[k] u[k]: one system, one step after the other."""
    x, y = np.zeros(A.shape[-1], dtype=complex), []
    A, B, C, D = (np.broadcast_to(M, (len(u), *M.shape[-2:])) for M in (A, B, C, D))
    for k, u_k in enumerate(u):
        y.append(C[k] @ x + D[k] @ u_k)
        x = A[k] @ x + B[k] @ u_k
    return np.array(y)


def loop_after_update(A, B, C, D, u):
    """h[k] = A[k] h[k-1] + B[k] u[k],  y[k] = C[k] h[k] + D[k] u[k]: how the papers write a recurrence."""
    h, y = np.zeros(A.shape[-1], dtype=complex), []
    A, B, C, D = (np.broadcast_to(M, (len(u), *M.shape[-2:])) for M in (A, B, C, D))
    for k, u_k in enumerate(u):
        h = A[k] @ h + B[k] @ u_k
        y.append(C[k] @ h + D[k] @ u_k)
    return np.array(y)


def random_fields(seed, n, m, p, *, batch=(), complex_=True):
    """Fields of a stable diagonal system: 0.5 <= |lambda| <= 0.97, angles all around (or positive real poles)."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        x = rng.normal(size=(*batch, *shape))
        return x + 1j * rng.normal(size=x.shape) if complex_ else x

    mu = np.log(rng.uniform(0.5, 0.97, size=(*batch, n)))
    if complex_:
        mu = mu + 1j * rng.uniform(-np.pi, np.pi, size=mu.shape)
    return {"log_poles": mu, "B": normal(n, m), "C": normal(p, n), "D": normal(p, m)}


def _complex(seed, n, m, p, **kw):
    return DiagonalSSM(**random_fields(seed, n, m, p, **kw))


def _real_part(seed, n, m, p, *, angles=None, **kw):
    """angles: of the leading modes, 0 and +-pi make them real."""
    f = random_fields(seed, n, m, p, **kw)
    if angles is not None:
        k = len(angles)
        f["log_poles"] = np.concatenate([f["log_poles"][..., :k].real + 1j * np.array(angles), f["log_poles"][..., k:]], axis=-1)
    return RealDiagonalSSM(**(f | {"D": f["D"].real}))


def _real_rank_one():
    """Two inputs and outputs, the first mode real with real B: it needs one state; the second real with complex B and C: two."""
    f = random_fields(35, 3, 2, 2)
    f["log_poles"] = f["log_poles"].real + 1j * np.array([0.0, np.pi, 1.0])
    f["B"] = np.concatenate([f["B"][:1].real + 0j, f["B"][1:]])
    return RealDiagonalSSM(**(f | {"D": f["D"].real}))


def _conjugate_pairs():
    """A complex system with a real kernel: two pairs and a real mode."""
    f = random_fields(10, 2, 1, 1)
    g = random_fields(11, 1, 1, 1, complex_=False)
    stacked = {k: np.concatenate([f[k], f[k].conj(), g[k]], axis=axis) for k, axis in (("log_poles", 0), ("B", 0), ("C", 1))}
    return DiagonalSSM(**stacked, D=g["D"])


def _light_damping(cls):
    margin = np.array([1e-9, 1e-9, 1e-6, 1e-3])
    f = random_fields(20, 4, 1, 1)
    f["log_poles"] = np.log1p(-margin) + 1j * np.array([0.3, 2.0, 1.0, 3.0])
    return cls(**(f | {"D": f["D"].real}))


def _repeated(cls):
    f = random_fields(21, 4, 1, 1)
    f["log_poles"] = f["log_poles"][[0, 0, 1, 1]]
    return cls(**(f | {"D": f["D"].real}))


def _dense(seed, n, m, p, *, batch=(), complex_=False, radius=0.9):
    """A random full A scaled to a spectral radius; far from normal when n is small."""
    f = random_fields(seed, n, m, p, batch=batch, complex_=complex_)
    A = np.random.default_rng(seed + 1).normal(size=(*batch, n, n)) + (0.5j if complex_ else 0.0)
    A = A * (radius / np.max(np.abs(np.linalg.eigvals(A)), axis=-1)[..., None, None])
    return StateSpace(A=A, B=f["B"], C=f["C"], D=f["D"])


def _dense_normal():
    f = random_fields(40, 4, 1, 1, complex_=False)
    Q = np.linalg.qr(np.random.default_rng(40).normal(size=(4, 4)))[0]
    block = np.array([[0.6, -0.5], [0.5, 0.6]])
    A = np.block([[block, np.zeros((2, 2))], [np.zeros((2, 2)), np.diag([0.9, -0.7])]])
    return StateSpace(A=Q @ A @ Q.T, B=f["B"], C=f["C"], D=f["D"])


def _shift_register():
    """Nilpotent A: all poles at exactly 0, u three steps ago."""
    return StateSpace(A=np.eye(3, k=-1), B=np.eye(3, 1), C=np.eye(3)[2:], D=np.zeros((1, 1)))


def _jordan():
    """One pole, 0.8, four times, with a single eigenvector, and a transient growth."""
    f = random_fields(42, 4, 1, 1, complex_=False)
    return StateSpace(A=0.8 * np.eye(4) + np.eye(4, k=1), B=f["B"], C=f["C"], D=f["D"])


def _zero_input(cls, **kw):
    f = random_fields(22, 3, 1, 1)
    return cls(**(f | {"B": 0 * f["B"], "D": f["D"].real}), **kw)


def _moved(sys, by):
    """All poles multiplied by e^by."""
    return type(sys)(log_poles=sys.log_poles + by, B=sys.B, C=sys.C, D=sys.D)


def _varying(cls, seed, n, m, p, *, batch=(), complex_=True):
    return cls(**random_fields(seed, n, m, p, batch=(LENGTH, *batch), complex_=complex_))


STABLE = {
    "complex_siso": _complex(1, 4, 1, 1),
    "complex_mimo": _complex(2, 5, 2, 3),
    "complex_batch": _complex(3, 4, 1, 1, batch=(2, 3)),
    "complex_mimo_batch": _complex(4, 3, 2, 2, batch=(3,)),
    "complex_one_state": _complex(5, 1, 1, 1),
    "complex_one_input": _complex(6, 3, 1, 2),
    "complex_one_output": _complex(7, 3, 2, 1),
    "complex_zero_input": _zero_input(DiagonalSSM),
    "complex_pairs": _conjugate_pairs(),
    "complex_light_damping": _light_damping(DiagonalSSM),
    "complex_repeated": _repeated(DiagonalSSM),
    "complex_half_period": DiagonalSSM(**random_fields(8, 3, 1, 1), dt=0.5),
    "diagonal_real_siso": _complex(12, 4, 1, 1, complex_=False),
    "diagonal_real_mimo": _complex(13, 4, 3, 2, complex_=False),
    "diagonal_real_batch": _complex(14, 3, 1, 1, batch=(4,), complex_=False),
    "diagonal_real_one_state": _complex(15, 1, 1, 1, complex_=False),
    "realpart_siso": _real_part(30, 4, 1, 1),
    "realpart_mimo": _real_part(31, 4, 2, 3),
    "realpart_batch": _real_part(32, 4, 1, 1, batch=(3, 2)),
    "realpart_mimo_batch": _real_part(33, 3, 2, 2, batch=(2,)),
    "realpart_real_modes": _real_part(34, 5, 1, 1, angles=[0.0, np.pi, -np.pi]),
    "realpart_real_modes_batch": _real_part(34, 4, 1, 1, angles=[0.0, np.pi], batch=(3,)),
    "realpart_real_modes_one_input": _real_part(36, 4, 1, 2, angles=[0.0, np.pi]),
    "realpart_real_modes_one_output": _real_part(37, 4, 2, 1, angles=[0.0, np.pi]),
    "realpart_real_modes_mimo": _real_rank_one(),
    "realpart_real_modes_zero_input": RealDiagonalSSM(
        log_poles=np.array([-0.1 + 0j, -0.3 + np.pi * 1j, -0.2 + 1j]),
        B=np.zeros((3, 1)) + 0j,
        C=random_fields(48, 3, 1, 1)["C"],
        D=np.ones((1, 1)),
    ),
    "realpart_real_modes_no_output": RealDiagonalSSM(
        log_poles=np.array([-0.1 + 0j, -0.3 + np.pi * 1j, -0.2 + 1j]),
        B=random_fields(49, 3, 2, 1)["B"],
        C=np.array([[0.0, 1.0 - 1j, 0.0]]),
        D=np.ones((1, 2)),
    ),
    "realpart_all_real": RealDiagonalSSM(**random_fields(38, 3, 1, 1, complex_=False)),
    "realpart_complex_C_only": RealDiagonalSSM(**(random_fields(38, 3, 1, 1, complex_=False) | {"C": random_fields(39, 3, 1, 1)["C"]})),
    "realpart_one_state": _real_part(44, 1, 1, 1),
    "realpart_zero_input": _zero_input(RealDiagonalSSM),
    "realpart_light_damping": _light_damping(RealDiagonalSSM),
    "realpart_repeated": _repeated(RealDiagonalSSM),
    "dense_normal": _dense_normal(),
    "dense_siso": _dense(41, 4, 1, 1),
    "dense_mimo": _dense(43, 4, 2, 3),
    "dense_complex": _dense(45, 3, 1, 1, complex_=True),
    "dense_complex_mimo": _dense(46, 3, 2, 2, complex_=True),
    "dense_batch": _dense(47, 3, 1, 1, batch=(2, 2)),
    "dense_one_state": StateSpace(A=np.array([[0.5]]), B=np.array([[2.0]]), C=np.array([[-1.0]]), D=np.array([[0.25]])),
    "dense_jordan": _jordan(),
    "dense_shift_register": _shift_register(),
}
UNSTABLE = {
    "complex_growing": _moved(_complex(50, 3, 1, 1), 0.6),
    "complex_one_of_batch_growing": DiagonalSSM(
        **(random_fields(51, 2, 1, 1, batch=(2,)) | {"log_poles": np.array([[-0.5 + 1j, -0.1], [-0.2 + 2j, 0.3 + 1j]])})
    ),
    "complex_on_circle": DiagonalSSM(**(random_fields(52, 2, 1, 1) | {"log_poles": np.array([1j, -0.2 + 2j])})),
    "diagonal_integrator": DiagonalSSM(**(random_fields(53, 2, 1, 1, complex_=False) | {"log_poles": np.array([0.0, -0.3])})),
    "realpart_growing": _moved(_real_part(54, 3, 1, 1), 0.6),
    "realpart_mimo_growing": _moved(_real_part(55, 3, 2, 2), 0.6),
    "dense_growing": _dense(56, 3, 1, 1, radius=1.2),
    "dense_mimo_growing": _dense(57, 3, 2, 2, radius=1.2),
}
TIME_VARYING = {
    "ltv_complex": _varying(DiagonalLTV, 60, 3, 1, 1),
    "ltv_real": _varying(DiagonalLTV, 61, 3, 1, 1, complex_=False),
    "ltv_mimo": _varying(DiagonalLTV, 62, 3, 2, 2),
    "ltv_batch": _varying(DiagonalLTV, 63, 2, 1, 1, batch=(2, 3)),
    "recurrence_complex": _varying(DiagonalRecurrence, 64, 3, 1, 1),
    "recurrence_real": _varying(DiagonalRecurrence, 65, 3, 1, 1, complex_=False),
    "recurrence_mimo": _varying(DiagonalRecurrence, 66, 3, 2, 2),
    "recurrence_batch": _varying(DiagonalRecurrence, 67, 2, 1, 1, batch=(2, 3)),
}
INVARIANT = STABLE | UNSTABLE
