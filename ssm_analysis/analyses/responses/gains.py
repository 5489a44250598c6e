r"""The gain sigma_max(G(e^{i theta})) and its slope, at angles of its own for each system of a batch.

`frequency_response` takes one grid for all systems, and forms z - lambda by subtraction. Near a light pole that
cancels; here it is -z e with e = expm1(log(lambda) - i theta), and with rho = |lambda|, g = rho - 1 and the sine s and
cosine c of (theta - arg(lambda)) / 2

    1/e = (g c^2 - (1 + rho) s^2 + 2i rho s c) / (g^2 c^2 + (1 + rho)^2 s^2),

where every sum has terms of one sign. In these letters

    G = D - conj(z) C (1/e) B,   dG/dtheta = -i conj(z) C (1/e)^2 B.
"""

from typing import TypeVar, overload

import numpy as np
from jaxtyping import Complex, Float, Inexact

from ssm_analysis.analyses.responses.frequency import residues
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.xp import Array, adjoint, array_namespace, complex_from, conj, device, eye, imag, is_complex, matmul, real, to_complex

FEW = 16
"""With at most this many pairs of an input and an output, G comes from the n residues c_i b_i by one matrix product."""
POWERS = 8
"""Steps of the power iteration that estimates sigma_max from below; on a grid 10 % are enough."""

TINY = 2.0**-1022
"""Smallest normal double."""

S = TypeVar("S", bound=LTI)
Angles = Float[Array, "*batch k"]
Response = Complex[Array, "*batch k p m"]


@overload
def all_modes(sys: DiagonalSSM | RealDiagonalSSM) -> DiagonalSSM: ...
@overload
def all_modes(sys: StateSpace) -> StateSpace: ...
def all_modes(sys: LTI) -> DiagonalSSM | StateSpace:
    """Return the same response without taking real parts: each stored mode of a `RealDiagonalSSM` and its conjugate.

    Unlike ``expand()``, which keeps real modes single, this loses no gradient where a mode happens to be real.
    """
    if not isinstance(sys, RealDiagonalSSM):
        return sys
    if not any(is_complex(getattr(sys, name)) for name in sys.AXES):
        return DiagonalSSM(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D, dt=sys.dt)
    fields = ((sys.log_poles, -1), (sys.B, -2), (sys.C / 2, -1))
    mu, B, C = (sys.xp.concat([x, conj(x)], axis=axis) for x, axis in fields)
    return DiagonalSSM(log_poles=mu, B=B, C=C, D=sys.D, dt=sys.dt)


def flattened(sys: S) -> S:
    """Return the batch as one axis."""
    axes = len(sys.batch_shape)
    return sys.map(lambda x: sys.xp.reshape(x, (-1, *x.shape[axes:])))


def has_real_kernel(sys: LTI) -> bool:
    """Return whether G(-theta) is the conjugate of G(theta), because of the form of the system."""
    return isinstance(sys, RealDiagonalSSM) or not any(is_complex(getattr(sys, name)) for name in sys.AXES)


def gain(sys: DiagonalSSM | StateSpace, theta: Angles) -> Angles:
    """Return sigma_max(G(e^{i theta})), differentiable."""
    G = response(sys, theta)
    return sys.xp.abs(G[..., 0, 0]) if G.shape[-2:] == (1, 1) else sys.xp.linalg.svdvals(G)[..., 0]


def gain_slope(sys: DiagonalSSM | StateSpace, theta: Angles) -> Angles:
    """Return half the derivative of sigma_max^2 by theta: sigma Re(u* G' v) with the singular vectors u and v."""
    xp = sys.xp
    G, derivative = response_and_derivative(sys, theta)
    if G.shape[-2:] == (1, 1):
        return real(conj(G) * derivative)[..., 0, 0]
    U, S, Vh = xp.linalg.svd(G, full_matrices=False)
    u, v = U[..., :, :1], adjoint(Vh[..., :1, :])
    return S[..., 0] * real(xp.matmul(adjoint(u), xp.matmul(derivative, v)))[..., 0, 0]


def survey(sys: DiagonalSSM, theta: Angles) -> Float[Array, "*batch 2 k"]:
    """Return ||G v|| and half the derivative of its square, v from a few power iterations: gain and slope, nearly or (m = 1) exactly.

    G is never formed where it has many entries.
    """
    xp, z, q = sys.xp, on_circle(theta)[..., None], _fast_resolvent(sys.log_poles, theta)
    if sys.ninputs * sys.noutputs == 1:
        r = residues(sys)
        G, derivative = sys.D[..., :, 0] - (conj(z) * matmul(q, r))[..., 0], -1j * (conj(z) * matmul(q * q, r))[..., 0]
        return xp.stack([xp.abs(G), real(conj(G) * derivative)], axis=-2)
    B, C, D = (xp.matrix_transpose(to_complex(x)) for x in (sys.B, sys.C, sys.D))
    v = _any_vector(sys.ninputs, like=q) + xp.zeros_like(q[..., :1])
    for _ in range(POWERS):
        y = xp.matmul(v, D) - conj(z) * xp.matmul(q * xp.matmul(v, B), C)
        v = _unit(xp.matmul(y, adjoint(D)) - z * xp.matmul(conj(q) * xp.matmul(y, adjoint(C)), adjoint(B)))
    x = xp.matmul(v, B)
    y, derivative = xp.matmul(v, D) - conj(z) * xp.matmul(q * x, C), -1j * conj(z) * xp.matmul(q * q * x, C)
    return xp.stack([xp.linalg.vector_norm(y, axis=-1), xp.sum(real(conj(y) * derivative), axis=-1)], axis=-2)


def gain_estimate(G: Response) -> Angles:
    """Return ||G v||, v from a few power iterations: sigma_max(G) nearly or, with one input or output, exactly."""
    xp = array_namespace(G)
    if 1 in G.shape[-2:]:
        return xp.linalg.vector_norm(G, axis=(-2, -1))
    v = _any_vector(G.shape[-1], like=G) + xp.zeros_like(G[..., 0, :])
    for _ in range(POWERS):
        v = _unit(xp.matmul(adjoint(G), xp.matmul(G, v[..., None]))[..., 0])
    return xp.linalg.vector_norm(xp.matmul(G, v[..., None])[..., 0], axis=-1)


def response(sys: DiagonalSSM | StateSpace, theta: Angles) -> Response:
    """Return G(e^{i theta})."""
    if isinstance(sys, StateSpace):
        return matmul(sys.C[..., None, :, :], _solved(sys, theta, sys.B[..., None, :, :])) + sys.D[..., None, :, :]
    zbar = conj(on_circle(theta))[..., None, None]
    return sys.D[..., None, :, :] - zbar * _between(sys, resolvent(sys.log_poles, theta))


def response_and_derivative(sys: DiagonalSSM | StateSpace, theta: Angles) -> tuple[Response, Response]:
    """Return G(e^{i theta}) and dG/dtheta."""
    z, D = on_circle(theta)[..., None, None], sys.D[..., None, :, :]
    if isinstance(sys, StateSpace):
        C, X = sys.C[..., None, :, :], _solved(sys, theta, sys.B[..., None, :, :])
        return matmul(C, X) + D, -1j * z * matmul(C, _solved(sys, theta, X))
    q = _fast_resolvent(sys.log_poles, theta)
    return D - conj(z) * _between(sys, q), -1j * conj(z) * _between(sys, q * q)


def resolvent(mu: Inexact[Array, "*batch n"], theta: Angles) -> Complex[Array, "*batch k n"]:
    """Return 1 / expm1(mu - i theta), accurate to the distance of e^{i theta} from each pole; differentiable."""
    xp = array_namespace(mu, theta)
    rho, growth, half = _pole_rows(mu, theta)
    s, c = xp.sin(half), xp.cos(half)
    scale = 1 / ((growth * c) ** 2 + ((1 + rho) * s) ** 2)
    return complex_from((growth * c * c - (1 + rho) * s * s) * scale, 2 * rho * s * c * scale)


def _fast_resolvent(mu: Inexact[Array, "*batch n"], theta: Angles) -> Complex[Array, "*batch k n"]:
    """Return the same numbers from one tangent, three times as fast; derivatives drown where the tangent is large."""
    rho, growth, half = _pole_rows(mu, theta)
    t = array_namespace(mu, theta).tan(half)
    square = t * t
    scale = 1 / (growth * growth + (1 + rho) ** 2 * square)
    return complex_from((growth - (1 + rho) * square) * scale, 2 * rho * t * scale)


def _pole_rows(mu: Array, theta: Array) -> tuple[Array, Array, Array]:
    """Return |lambda|, |lambda| - 1 and (theta - arg(lambda)) / 2."""
    xp, decay = array_namespace(mu), real(mu)[..., None, :]
    return xp.exp(decay), xp.expm1(decay), (theta / 2)[..., :, None] - (imag(mu) / 2)[..., None, :]


def on_circle(theta: Angles) -> Complex[Array, "*batch k"]:
    """Return e^{i theta}."""
    xp = array_namespace(theta)
    return complex_from(xp.cos(theta), xp.sin(theta))


def _between(sys: DiagonalSSM, q: Complex[Array, "*batch k n"]) -> Response:
    """Return C diag(q) B."""
    if sys.ninputs * sys.noutputs > FEW:
        return matmul(sys.C[..., None, :, :] * q[..., None, :], sys.B[..., None, :, :])
    return sys.xp.reshape(matmul(q, residues(sys)), (*q.shape[:-1], sys.noutputs, sys.ninputs))


def _solved(sys: StateSpace, theta: Angles, X: Array) -> Complex[Array, "*batch k n m"]:
    """Return (z - A)^{-1} X."""
    A = to_complex(sys.A)[..., None, :, :]
    pencil = on_circle(theta)[..., None, None] * eye(sys.nstates, like=A) - A
    return sys.xp.linalg.solve(pencil, to_complex(X) + 0 * pencil[..., :, :1])


def _any_vector(m: int, *, like: Array) -> Complex[Array, " m"]:
    """Return a fixed start that is orthogonal to no singular vector, except by a miracle."""
    rng = np.random.default_rng(0)
    return array_namespace(like).asarray(rng.normal(size=m) + 1j * rng.normal(size=m), device=device(like))


def _unit(v: Array) -> Array:
    """Return v / ||v||, and 0 for 0."""
    return v / (array_namespace(v).linalg.vector_norm(v, axis=-1, keepdims=True) + TINY)
