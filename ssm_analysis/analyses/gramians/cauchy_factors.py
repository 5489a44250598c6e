r"""Triangular factors of the Gramians of diagonal systems: Takenaka's and Malmquist's orthogonal functions.

The Gramian b_i conj(b_k) / (1 - l_i conj(l_k)) is a scaled Cauchy matrix. Its Cholesky factor has the columns

    L_k = b psi sqrt(1 - |l_p|^2) / (1 - l conj(l_p)),   then   psi <- psi (l - l_p) / (1 - l conj(l_p)),

over all poles l at once, from psi = 1, for the pivot p with the largest remaining energy
|b_p psi_p|^2 / (1 - |l_p|^2). That is complete pivoting, so L is a well conditioned matrix with entries of size at
most 1 times a diagonal one, and as differences of poles are formed before they are rounded (`expm1`), every entry
is accurate to its own size, however small. At p, psi becomes exactly 0: equal poles give zero columns, the correct
loss of rank.

References
----------
Ninness, Gustafsson, IEEE Trans. Autom. Control 42 (1997) 515-521 (the functions, real ones for conjugate pairs too);
Demmel, SIAM J. Matrix Anal. Appl. 21 (1999) 562-580 (Gaussian elimination of Cauchy matrices to full relative accuracy).
"""

from jaxtyping import Complex, Float, Inexact, Int

from ssm_analysis.xp import Array, abs2, array_namespace, complex_from, conj, device, expm1, imag, matmul, real, stop_gradient


def orthogonal_functions(mu: Inexact[Array, "*batch n"], weight: Float[Array, "*batch n"]) -> Inexact[Array, "*batch n n"]:
    """Return Psi with Psi Psi* = 1 / (1 - l conj(l')): the columns above for b = 1, pivots chosen as for |b| = ``weight``.

    Then diag(b) Psi is a factor of the Gramian of any input vector b. ``mu`` holds the log-poles, log(l).
    """
    xp = array_namespace(mu)
    cauchy, blaschke = _cauchy_and_blaschke(mu)
    energy = -xp.expm1(2 * real(mu))
    weight = stop_gradient(weight / xp.sqrt(energy))
    psi, columns = xp.ones_like(mu), []
    for _ in range(mu.shape[-1]):
        p = _largest(weight * xp.abs(stop_gradient(psi)))
        columns.append(psi * xp.sqrt(_at(energy, p)) / _row(cauchy, p))
        psi = psi * _row(blaschke, p)
    return xp.stack(columns, axis=-1)


def pair_functions(mu: Complex[Array, "*batch n"], weight: Float[Array, "*batch n"]) -> Complex[Array, "*batch n 2*n"]:
    r"""Return the factor Psi of `orthogonal_functions` for poles l and conj(l), with real combinations of the two columns of each pair.

    ``mu`` holds the log-poles of one of each pair. Only the rows of l are returned; those of conj(l) are their conjugates.
    With a = 2 Re(l_p) / (1 + |l_p|^2) and
    d(l) = (1 - l conj(l_p)) (1 - l l_p) the two columns of a pair are (Kautz)

        psi sqrt(1 - |l_p|^4) sqrt(1 - a^2) / d(l)   and   psi sqrt(1 - |l_p|^4) (l - a) / d(l),

    with 1 -+ a = |1 -+ l_p|^2 / (1 + |l_p|^2) and l - a = (l - 1) + (1 - a).
    """
    xp = array_namespace(mu)
    denominator, blaschke = _pair_kernels(mu)
    less, lam = expm1(mu), xp.exp(mu)
    one_plus = 1 + abs2(lam)
    below, above = abs2(less) / one_plus, abs2(1 + lam) / one_plus  # 1 - a, 1 + a
    scale = xp.sqrt(-xp.expm1(4 * real(mu)))
    height = scale * xp.sqrt(below * above)
    weight = stop_gradient(weight / xp.sqrt(-xp.expm1(2 * real(mu))))
    psi, columns = xp.ones_like(mu), []
    for _ in range(mu.shape[-1]):
        p = _largest(weight * xp.abs(stop_gradient(psi)))
        over = psi / _row(denominator, p)
        columns += [over * _at(height, p), over * (_at(scale, p) * (less + _at(below, p)))]
        psi = psi * _row(blaschke, p)
    return xp.stack(columns, axis=-1)


def multi_input_factor(
    mu: Inexact[Array, "*batch n"], B: Inexact[Array, "*batch n m"], weight: Float[Array, "*batch n"]
) -> Inexact[Array, "*batch n n"]:
    """Return L with L L* = (B B*)_ik / (1 - l_i conj(l_k)), n columns for any number of inputs.

    With v the direction of row p of B, the column is that of the single input B v, and only this component of B is
    multiplied by the Blaschke factor: B <- B + ((blaschke - 1) B v) v*. Row p becomes 0. ``weight`` scales the states
    for the choice of the pivots only.

    References
    ----------
    Alpay, Gohberg, in: Topics in Interpolation Theory, Birkhaeuser (1997), 73-94 (Blaschke-Potapov products).
    """
    xp = array_namespace(mu, B)
    cauchy, blaschke = _cauchy_and_blaschke(mu)
    energy = -xp.expm1(2 * real(mu))
    weight = stop_gradient(weight / xp.sqrt(energy))
    states = xp.arange(mu.shape[-1], device=device(mu))
    B, columns = B + 0 * mu[..., None], []
    for _ in range(mu.shape[-1]):
        size = xp.linalg.vector_norm(stop_gradient(B), axis=-1)
        p = _largest(weight * size)
        b = _row(B, p)
        nothing = _at(size, p) == 0
        norm = xp.sqrt(xp.where(nothing, xp.ones_like(energy[..., :1]), xp.sum(abs2(b), axis=-1, keepdims=True)))
        v = b / norm
        along = matmul(B, conj(v)[..., None])[..., 0]
        columns.append(along * xp.sqrt(_at(energy, p)) / _row(cauchy, p))
        B = B + ((_row(blaschke, p) - 1) * along)[..., None] * v[..., None, :]
        B = xp.where((states == p)[..., None], xp.zeros_like(B), B)
    return xp.stack(columns, axis=-1)


def _cauchy_and_blaschke(mu: Array) -> tuple[Array, Array]:
    """Return 1 - l conj(l_p) and (l - l_p) / (1 - l conj(l_p)), each with the axes (pivot, state)."""
    state, pivot = mu[..., None, :], mu[..., :, None]
    cauchy = -expm1(state + conj(pivot))
    return cauchy, array_namespace(mu).exp(pivot) * expm1(state - pivot) / cauchy


def _pair_kernels(mu: Array) -> tuple[Array, Array]:
    """Return d(l) = (1 - l conj(l_p)) (1 - l l_p) and (l - l_p) (l - conj(l_p)) / d(l), each with the axes (pivot, state).

    The four complex exponentials share two growths and two angles:
    expm1(x + iy) = expm1(x) - 2 sin(y/2)^2 e^x + 2i sin(y/2) cos(y/2) e^x.
    """
    xp = array_namespace(mu)
    decay, angle = real(mu), imag(mu) / 2
    growths = (xp.expm1(decay[..., None, :] - decay[..., :, None]), xp.expm1(decay[..., None, :] + decay[..., :, None]))
    parts = []
    for half in (angle[..., None, :] - angle[..., :, None], angle[..., None, :] + angle[..., :, None]):
        sine = xp.sin(half)
        parts.append((2 * sine * sine, 2 * sine * xp.cos(half)))
    away, toward = ([complex_from(growth - versine * (1 + growth), (1 + growth) * sine) for versine, sine in parts] for growth in growths)
    denominator = toward[0] * toward[1]
    return denominator, xp.exp(2 * decay)[..., :, None] * away[0] * away[1] / denominator


def _largest(size: Array) -> Int[Array, "*batch 1"]:
    """Return the index of the largest entry along the last axis: the next pivot."""
    return array_namespace(size).argmax(size, axis=-1, keepdims=True)


def _at(x: Float[Array, "*batch n"], p: Int[Array, "*batch 1"]) -> Float[Array, "*batch 1"]:
    """Return entry p of each vector."""
    return array_namespace(x).take_along_axis(x, p, axis=-1)


def _row(x: Inexact[Array, "*batch n k"], p: Int[Array, "*batch 1"]) -> Inexact[Array, "*batch k"]:
    """Return row p of each matrix."""
    return array_namespace(x).take_along_axis(x, p[..., None], axis=-2)[..., 0, :]
