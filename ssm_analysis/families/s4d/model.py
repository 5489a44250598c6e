r"""S4D: one diagonal complex system per feature.

    h[k] = A_d h[k-1] + B_d u[k],   y[k] = 2 Re(C h[k]) + D u[k],      per feature,
    A = -f(A_real) - i g(A_imag),   (A_d, B_d) = zero-order hold (or bilinear) of (A, B) with the step delta.

One mode of each conjugate pair is stored. S4D-Real stores real modes only (no A_imag; B and C real) and keeps the factor 2. The
reverse half of a bidirectional layer leaves out the input of the current token, y[k] = 2 Re(C h[k-1]): strictly_causal.

Glossary
--------
H  d_model, features; each has a system of its own
n  modes stored: d_state / 2, or d_state in S4D-Real
S  n_ssm, copies of (A, B); feature h uses copy h mod S
inv_dt (H, 1) or (H, n)         step before its transform: delta = e^inv_dt with dt_transform="exp"
A_real (S, n), A_imag (S, n)    before their transforms; note the minus signs above
B (S, n), C (channels, H, n)    input and output weights
D (channels, H)                 feed-through

References
----------
Gu, Gupta, Goel, Re, On the Parameterization and Initialization of Diagonal State Space Models, arXiv 2206.11893;
names and options as in version 4 of the official implementation.
"""

import numpy as np
from jaxtyping import Float, Inexact

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum, diagonal_spectrum
from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.s4d.options import DEFAULTS, Options
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.hippo import hippo, normal_part
from ssm_analysis.families.shared.parameters import (
    check_choice,
    check_input,
    check_interval,
    check_params,
    check_sizes,
    complex_normal,
    generator,
    log_uniform,
)
from ssm_analysis.families.shared.transforms import apply_transform, tile_copies
from ssm_analysis.systems import RealDiagonalSSM
from ssm_analysis.systems.discretization import bilinear, zero_order_hold
from ssm_analysis.xp import Array, array_namespace, complex_from, double, is_complex, to_numpy

SHAPES = {"inv_dt": "H k", "A_real": "S n", "A_imag": "S n", "B": "S n", "C": "channels H n", "D": "channels H"}
INITS = ("legs", "lin", "inv", "real", "random")
DISCRETIZATIONS = {"zoh": zero_order_hold, "bilinear": bilinear}
B_CLIP = 2.0
"""Bound on |Im(V* B)| of LegS, to which the official implementation clips it since version 4."""


def init(
    *,
    d_model: int = 64,
    d_state: int = 64,
    init: str = "legs",
    disc: str = "zoh",
    dt_min: float = 1e-3,
    dt_max: float = 1e-1,
    n_ssm: int = 1,
    channels: int = 1,
    seed: int = 0,
) -> Layer:
    """Initialize a layer.

    Parameters
    ----------
    d_model
        Number of features H, each with a system of its own.
    d_state
        Number of states of each system: n = d_state / 2 pairs (S4D-Real: n = d_state real modes).
    init
        ``legs``: normal part of HiPPO-LegS; ``lin``: -1/2 - i pi k; ``inv``: -1/2 - i (N/pi) (N/(2k+1) - 1);
        ``real``: -(k+1); ``random``: -1/2 - i e^w with normal w. (Section 4 of the paper; random as upstream.)
    disc
        Discretization: ``zoh`` (zero-order hold) or ``bilinear``.
    dt_min, dt_max
        Smallest and largest initial step; one step is drawn for each feature, log-uniformly.
    n_ssm
        Number of copies of (A, B), a divisor of ``d_model``.
    channels
        Number of outputs of each system.
    seed
        Random seed of the parameters.
    """
    check_sizes(d_model=d_model, d_state=d_state, n_ssm=n_ssm, channels=channels)
    check_choice("init", init, INITS)
    check_choice("disc", disc, tuple(DISCRETIZATIONS))
    check_interval("dt_min", dt_min, "dt_max", dt_max, inside=(np.finfo(np.float64).tiny, np.inf))
    if d_model % n_ssm:
        raise ValueError(f"n_ssm must divide d_model = {d_model}, got {n_ssm}")
    if d_state % 2 and init != "real":
        raise ValueError(f"d_state must be even, because modes are kept in conjugate pairs, got {d_state}; init='real' takes any")
    rng = generator(seed)
    params = {"inv_dt": log_uniform(rng, dt_min, dt_max, (d_model, 1)), **_modes(init, d_state, n_ssm, rng)}
    n = params["B"].shape[1]
    C = rng.standard_normal((channels, d_model, n)) if init == "real" else complex_normal(rng, (channels, d_model, n))
    params |= {"C": C, "D": rng.standard_normal((channels, d_model))}
    return initialized("s4d", params, dt_transform="exp", real_transform="exp", imag_transform="none", disc=disc)


def _modes(init: str, N: int, n_ssm: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return A_real, A_imag and B of all copies."""
    if init == "real":
        rate = np.arange(1, N + 1.0)
        return {"A_real": np.tile(np.log(rate), (n_ssm, 1)), "B": np.ones((n_ssm, N))}
    k, n = np.arange(N // 2), N // 2
    rate, frequency, B = np.full((n_ssm, n), 0.5), np.zeros((n_ssm, n)), np.ones((n_ssm, n), dtype=np.complex128)
    if init == "legs":
        lam, V = normal_part("legs", N)
        projected = np.conj(V.T) @ hippo("legs", N)[1]
        frequency = frequency - np.imag(lam)
        B = B * (np.real(projected) + 1j * np.clip(np.imag(projected), -B_CLIP, B_CLIP))
    elif init == "random":
        frequency = np.exp(rng.standard_normal((n_ssm, n)))
    else:
        frequency = frequency + (np.pi * k if init == "lin" else N / np.pi * (N / (2 * k + 1) - 1))
    return {"A_real": np.log(rate), "A_imag": frequency, "B": B}


def system(params: Params, options: Options = DEFAULTS) -> RealDiagonalSSM:
    """Return the layer as H systems with one input each: batch shape (H,), p = channels.

    Parameters
    ----------
    params
        The parameters of the glossary.
    options
        The options of the layer; see `Options`.
    """
    log_poles, B = _discretized(params, options)
    xp = array_namespace(*params.values())
    build = RealDiagonalSSM if options.strictly_causal else RealDiagonalSSM.from_recurrence
    return build(log_poles=log_poles, B=B, C=2 * xp.moveaxis(params["C"], 0, 1), D=xp.matrix_transpose(params["D"])[..., None])


def _discretized(params: Params, options: Options) -> tuple[Inexact[Array, "h n"], Inexact[Array, "h n 1"]]:
    """Return the log-poles and B of each feature."""
    H = _checked(params)["H"]
    rate = tile_copies(apply_transform(options.real_transform, params["A_real"]), H)
    is_real = "A_imag" not in params
    A = -rate if is_real else -complex_from(rate, tile_copies(apply_transform(options.imag_transform, params["A_imag"]), H))
    delta = apply_transform(options.dt_transform, params["inv_dt"])
    return DISCRETIZATIONS[options.disc](A, tile_copies(params["B"], H)[..., None], delta)


def core_input(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[Array, "l h 1"]:
    """Return one feature for each system."""
    check_input(u, _checked(params)["H"])
    return u[..., None]


def reference(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[np.ndarray, "l h channels"]:
    """Run the recurrence of the paper feature by feature and step by step."""
    check_input(u, _checked(params)["H"])
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    transformed = {name: apply_transform(t, p[name]) for name, t in (("inv_dt", options.dt_transform), ("A_real", options.real_transform))}
    frequency = apply_transform(options.imag_transform, p["A_imag"]) if "A_imag" in p else np.zeros_like(p["A_real"])
    L, H, S = u.shape[0], u.shape[1], len(p["A_real"])
    y = np.empty((L, H, len(p["D"])))
    for h in range(H):
        A, delta = -transformed["A_real"][h % S] - 1j * frequency[h % S], transformed["inv_dt"][h]
        if options.disc == "zoh":
            A_d, B_d = np.exp(delta * A), (np.exp(delta * A) - 1) / A * p["B"][h % S]
        else:
            A_d, B_d = (1 + delta * A / 2) / (1 - delta * A / 2), delta / (1 - delta * A / 2) * p["B"][h % S]
        x = np.zeros(len(A), dtype=np.complex128)
        for k in range(L):
            before, x = x, A_d * x + B_d * float(u[k, h])
            y[k, h] = 2 * (p["C"][:, h] @ (before if options.strictly_causal else x)).real + p["D"][:, h] * float(u[k, h])
    return y


def spectrum(params: Params, options: Options = DEFAULTS) -> Spectrum:
    """Return the n stored eigenvalues of A_d for each of the H features."""
    return diagonal_spectrum(_discretized(params, options)[0], one_of_each_pair="A_imag" in params)


def _checked(params: Params) -> dict[str, int]:
    """Check the parameters and return the sizes of the glossary."""
    sizes = check_params("s4d", params, SHAPES, optional=("A_imag",))
    if "A_imag" not in params and (is_complex(params["B"]) or is_complex(params["C"])):
        raise KeyError("parameters of family 's4d': missing A_imag; only S4D-Real, whose B and C are real, has none")
    if sizes["k"] not in (1, sizes["n"]):
        raise ValueError(f"inv_dt must have shape (H, 1) or (H, n) with n = {sizes['n']}, got {tuple(params['inv_dt'].shape)}")
    return sizes
