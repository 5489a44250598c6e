r"""S4: one system per feature, its state matrix diagonal minus low rank (DPLR).

    x' = A x + B u,   y = C x + D u,   A = Lambda - sum_r P_r P_r^*,      Lambda = -f(A_real) - i g(A_imag)

in d_state = 2 n complex coordinates that come in conjugate pairs: [Lambda, conj Lambda] on the diagonal, [P, conj P],
[B, conj B] and [C, conj C]. One of each pair is stored. The low-rank term couples the pairs, so A is not the block diagonal
of its halves. Discretized by the bilinear rule with the step delta,

    h[k] = A_d h[k-1] + B_d u[k],   A_d = (I - delta A/2)^{-1} (I + delta A/2),   B_d = (I - delta A/2)^{-1} delta B.

Glossary
--------
H  d_model, features; each has a system of its own
n  pairs of states, d_state / 2
S  n_ssm, copies of (A, B); feature h uses copy h mod S
r  rank of the low-rank part
inv_dt (H, 1) or (H, n)         step before its transform: delta = e^inv_dt with dt_transform="exp"
A_real (S, n), A_imag (S, n)    before their transforms; note the minus signs above
P (r, S, n), Q (r, S, n)        low-rank part; Q in the place of the conjugate P where it is present: A = Lambda - sum_r P_r Q_r^*
B (S, n), C (channels, H, n)    input and output weights; C itself, not the C (I - A_d^L) that checkpoints may hold
D (channels, H)                 feed-through

P, Q, B and C are complex. Steps of one's own for each state, inv_dt (H, n), multiply the rows of A and B: delta A = diag(delta) A.
Two more things differ between implementations and are options: conj_sym=False for those that store all modes and take the real
part, y = Re(C x) + D u with A = Lambda - P P^* as it stands (annotated-s4); strictly_causal for the reverse half of bidirectional
layers, y[k] = C h[k-1].

References
----------
Gu, Goel, Re, Efficiently Modeling Long Sequences with Structured State Spaces, arXiv 2111.00396; Goel, Gu, Donahue, Re,
It's Raw!, arXiv 2202.09729, for P P^* in the place of P Q^*, which keeps A stable. Names and options as in version 4 of the
official implementation.
"""

import math

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum
from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.s4.options import DEFAULTS, Options
from ssm_analysis.families.s4.spectrum import CLAMP, ideal_spectrum, measure_of, stored_spectrum
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.hippo import check_measure, hippo, normal_part
from ssm_analysis.families.shared.parameters import (
    check_input,
    check_interval,
    check_params,
    check_sizes,
    complex_normal,
    generator,
    log_uniform,
)
from ssm_analysis.families.shared.transforms import apply_transform, tile_copies
from ssm_analysis.systems import StateSpace
from ssm_analysis.xp import Array, array_namespace, conj, diag, double, eye, imag, real, to_numpy

SHAPES = {
    "inv_dt": "H k",
    "A_real": "S n",
    "A_imag": "S n",
    "P": "r S n",
    "Q": "r S n",
    "B": "S n",
    "C": "channels H n",
    "D": "channels H",
}
OPTIONAL = ("Q",)


def init(
    *,
    d_model: int = 64,
    d_state: int = 64,
    measure: str = "legs",
    rank: int | None = None,
    dt_min: float = 1e-3,
    dt_max: float = 1e-1,
    n_ssm: int = 1,
    channels: int = 1,
    b_clip: float | None = 2.0,
    seed: int = 0,
) -> Layer:
    """Initialize a layer.

    Parameters
    ----------
    d_model
        Number of features H, each with a system of its own.
    d_state
        Number of states of each system, even; by default 64, as in the official implementation.
    measure
        The HiPPO matrix: ``legs`` (the paper's), ``legt`` or ``fout``.
    rank
        Rank of the low-rank part; by default the rank that the measure needs, 2 for ``legt`` and 1 otherwise. Further columns are 0,
        as upstream.
    dt_min, dt_max
        Smallest and largest initial step; one step is drawn for each feature, log-uniformly. Upstream uses 1e-4 to 1e-1 for Path-X.
    n_ssm
        Number of copies of (A, B), a divisor of ``d_model``. Upstream's configuration has 1, its code defaults to ``d_model``.
    channels
        Number of outputs of each system.
    b_clip
        Bound on |Im V^* B|, with V the eigenvectors of the normal part. Upstream clips since version 4, after which (A, B) is no
        longer the pair of HiPPO; None keeps that pair.
    seed
        Random seed of the parameters.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    check_sizes(d_model=d_model, d_state=d_state, n_ssm=n_ssm, channels=channels)
    check_measure(measure, d_state)
    check_interval("dt_min", dt_min, "dt_max", dt_max, inside=(np.finfo(np.float64).tiny, np.inf))
    if d_model % n_ssm:
        raise ValueError(f"n_ssm must divide d_model = {d_model}, got {n_ssm}")
    if b_clip is not None and not b_clip > 0:
        raise ValueError(f"b_clip must be positive, or None for no clipping, got {b_clip}")
    rng, n = generator(seed), d_state // 2
    params = {
        "inv_dt": log_uniform(rng, dt_min, dt_max, (d_model, 1)),
        **_dplr(measure, d_state, n_ssm, rank=rank, b_clip=math.inf if b_clip is None else b_clip),
        "C": complex_normal(rng, (channels, d_model, n)),
        "D": rng.standard_normal((channels, d_model)),
    }
    return initialized("s4", params, dt_transform="exp", real_transform="exp", imag_transform="none")


def _dplr(measure: str, N: int, n_ssm: int, *, rank: int | None, b_clip: float) -> dict[str, np.ndarray]:
    """Return A_real, A_imag, P and B of all copies: HiPPO in the coordinates in which its normal part is diagonal."""
    _, B, P = hippo(measure, N)
    needed = P.shape[1]
    if rank is not None and rank < needed:
        raise ValueError(f"rank must be at least {needed} for measure {measure!r}, got {rank}")
    lam, V = normal_part(measure, N)
    P = np.pad(np.conj(V.T) @ P, ((0, 0), (0, (rank or needed) - needed))).T
    B = np.conj(V.T) @ B
    B = np.real(B) + 1j * np.clip(np.imag(B), -b_clip, b_clip)
    rate, frequency = np.maximum(-np.real(lam), CLAMP), np.maximum(-np.imag(lam), CLAMP)
    modes = {name: np.tile(x, (n_ssm, 1)) for name, x in (("A_real", np.log(rate)), ("A_imag", frequency), ("B", B))}
    return {**modes, "P": np.tile(P[:, None, :], (1, n_ssm, 1))}


def system(params: Params, options: Options = DEFAULTS) -> StateSpace:
    """Return the layer as H systems with one input and real matrices: batch shape (H,), p = channels.

    The state is sqrt(2) [Re x; Im x]: a unitary change of coordinates from [x; conj x], so no norm and no eigenvector condition
    number changes. (Without conj_sym it is [Re x; Im x].)

    Parameters
    ----------
    params
        The parameters of the glossary.
    options
        The options of the layer; see `Options`.

    Raises
    ------
    KeyError
        If a parameter is missing or unknown.
    ValueError
        If a shape does not fit or a transform is unknown.
    """
    H = _checked(params)["H"]
    xp = array_namespace(*params.values())
    rate, frequency = apply_transform(options.real_transform, params["A_real"]), apply_transform(options.imag_transform, params["A_imag"])
    P, Q = params["P"], params.get("Q", params["P"])
    A = xp.concat([xp.concat([-diag(rate), diag(frequency)], axis=-1), xp.concat([-diag(frequency), -diag(rate)], axis=-1)], axis=-2)
    A = A - xp.sum(_outer(P, Q) if options.conj_sym else _realified(P[..., :, None] * conj(Q)[..., None, :]), axis=0)
    root = math.sqrt(2) if options.conj_sym else 1.0
    delta = apply_transform(options.dt_transform, params["inv_dt"])
    delta = xp.concat([delta, delta], axis=-1)[..., None] if delta.shape[-1] > 1 else delta[..., None]
    half, one = delta * tile_copies(A, H) / 2, eye(A.shape[-1], like=A)
    B = root * xp.concat([real(params["B"]), imag(params["B"])], axis=-1)
    solved = xp.linalg.solve(one - half, xp.concat([one + half, delta * tile_copies(B, H)[..., None]], axis=-1))
    C = xp.moveaxis(params["C"], 0, 1)
    C, D = root * xp.concat([real(C), -imag(C)], axis=-1), xp.matrix_transpose(params["D"])[..., None]
    build = StateSpace if options.strictly_causal else StateSpace.from_recurrence
    return build(A=solved[..., : A.shape[-1]], B=solved[..., A.shape[-1] :], C=C, D=D)


def _outer(P: Array, Q: Array) -> Array:
    """Return 2 [Re P; Im P] [Re Q; Im Q]^T, which is [P; conj P] [Q; conj Q]^* in the coordinates sqrt(2) [Re x; Im x]."""
    xp = array_namespace(P)
    left, right = (xp.concat([real(x), imag(x)], axis=-1) for x in (P, Q))
    return 2 * left[..., :, None] * right[..., None, :]


def _realified(M: Array) -> Array:
    """Return [[Re M, -Im M], [Im M, Re M]], the action of M on [Re x; Im x]."""
    xp, re, im = array_namespace(M), real(M), imag(M)
    return xp.concat([xp.concat([re, -im], axis=-1), xp.concat([im, re], axis=-1)], axis=-2)


def core_input(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[Array, "l h 1"]:
    """Return one feature for each system."""
    check_input(u, _checked(params)["H"])
    return u[..., None]


def reference(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[np.ndarray, "l h channels"]:
    """Run the recurrence of the paper in the complex coordinates, feature by feature and step by step."""
    check_input(u, _checked(params)["H"])
    p, u = {name: to_numpy(double(x)) for name, x in params.items()}, to_numpy(u)
    lam = -apply_transform(options.real_transform, p["A_real"]) - 1j * apply_transform(options.imag_transform, p["A_imag"])
    delta = apply_transform(options.dt_transform, p["inv_dt"])
    all_modes = _with_conjugates if options.conj_sym else np.asarray
    L, H, S = u.shape[0], u.shape[1], len(lam)
    y = np.empty((L, H, len(p["D"])))
    for h in range(H):
        A = np.diag(all_modes(lam[h % S]))
        for P, Q in zip(all_modes(p["P"][:, h % S]), all_modes(p.get("Q", p["P"])[:, h % S]), strict=True):
            A = A - np.outer(P, np.conj(Q))
        step, one = np.diag(np.resize(delta[h], len(A))), np.eye(len(A))
        inverse = np.linalg.inv(one - step @ A / 2)
        A_d, B_d = inverse @ (one + step @ A / 2), inverse @ step @ all_modes(p["B"][h % S])
        C, x = all_modes(p["C"][:, h]), np.zeros(len(A), dtype=np.complex128)
        for k in range(L):
            before, x = x, A_d @ x + B_d * u[k, h]
            y[k, h] = (C @ (before if options.strictly_causal else x)).real + p["D"][:, h] * u[k, h]
    return y


def spectrum(params: Params, options: Options = DEFAULTS) -> Spectrum:
    """Return the eigenvalues of A_d for each of the H features, from the stored matrix and in extended precision.

    There are 2n eigenvalues, or n without conj_sym; the real matrices of `system` then have the conjugates as well. The parameters
    are taken as exact numbers. Each different copy of A, or each feature if inv_dt is (H, n), is one eigenvalue problem. It takes
    about 1.3 s with 64 states, and eight times as long with twice as many. The condition number of a multiple eigenvalue is infinite.

    Raises
    ------
    KeyError, ValueError
        As `system`; and a ValueError if A is defective or the discrete matrix does not exist.
    """
    _checked(params)
    return stored_spectrum(params, options)


def initial_spectrum(params: Params, options: Options = DEFAULTS) -> Spectrum:
    """Return the eigenvalues of A_d for the HiPPO matrix that fresh parameters approximate, without their rounding; see `ideal_spectrum`.

    Raises
    ------
    KeyError, ValueError
        As `system`; and a ValueError if the parameters are not those of a fresh layer with one step per feature.
    """
    if _checked(params)["k"] > 1:
        raise ValueError("with one step for each state, inv_dt (H, n), the discrete matrix is not that of a HiPPO matrix; use spectrum()")
    if not options.conj_sym or "Q" in params:
        raise ValueError("only layers that store P and one mode of each conjugate pair have an ideal matrix; use spectrum()")
    measure = measure_of(params, options)
    delta = to_numpy(apply_transform(options.dt_transform, params["inv_dt"]))[:, 0]
    return ideal_spectrum(measure, 2 * params["A_real"].shape[1], delta)


def _checked(params: Params) -> dict[str, int]:
    """Check the parameters and return the sizes of the glossary."""
    sizes = check_params("s4", params, SHAPES, optional=OPTIONAL)
    if sizes["k"] not in (1, sizes["n"]):
        raise ValueError(f"inv_dt must have shape (H, 1) or (H, n) with n = {sizes['n']}, got {tuple(params['inv_dt'].shape)}")
    if sizes["H"] % sizes["S"]:
        raise ValueError(f"the number of copies S must divide the number of features H = {sizes['H']}, got {sizes['S']}")
    return sizes


def _with_conjugates(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.conj(x)], axis=-1)
