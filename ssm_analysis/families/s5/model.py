r"""S5: one diagonal system with many inputs and outputs, one learned step per mode.

    h[k] = Lambda_d h[k-1] + B_d u[k],   y[k] = 2 Re(C h[k]) + D u[k],
    (Lambda_d, B_d) = zero-order hold (or bilinear) of (Lambda, B) with the steps e^log_step.

With conjugate symmetry one mode of each pair is stored and the factor is 2; without it all modes are, and it is 1.

Glossary
--------
H  d_model, features in and out
P  modes stored: d_state / 2 with conjugate symmetry
Lambda_re (P), Lambda_im (P)  continuous eigenvalues; nothing keeps Lambda_re negative unless clip_eigs
B (P, H), C (H, P)            complex input and output matrices
D (H)                         elementwise feed-through
log_step (P)                  log of the step of each mode

References
----------
Smith, Warrington, Linderman, Simplified State Space Layers for Sequence Modeling, arXiv 2208.04933, sections 3
and 4.3 and appendix B; names and defaults as in the official implementation.
"""

import numpy as np
from jaxtyping import Complex, Float

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum, diagonal_spectrum
from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.s5.options import DEFAULTS, Options
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.hippo import normal_part
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
from ssm_analysis.systems import RealDiagonalSSM
from ssm_analysis.systems.discretization import bilinear, zero_order_hold
from ssm_analysis.xp import Array, array_namespace, complex_from, diag, double, to_numpy

SHAPES = {"Lambda_re": "P", "Lambda_im": "P", "B": "P H", "C": "H P", "D": "H", "log_step": "P"}
C_INITS = ("trunc_standard_normal", "lecun_normal", "complex_normal")
DISCRETIZATIONS = {"zoh": zero_order_hold, "bilinear": bilinear}
CLIP = -1e-4
"""Largest real part with clip_eigs, as in the official implementation."""


def init(
    *,
    d_model: int = 64,
    d_state: int = 64,
    blocks: int = 1,
    C_init: str = "trunc_standard_normal",
    discretization: str = "zoh",
    conj_sym: bool = True,
    clip_eigs: bool = False,
    dt_min: float = 1e-3,
    dt_max: float = 1e-1,
    seed: int = 0,
) -> Layer:
    """Initialize a layer from ``blocks`` copies of HiPPO-N, the normal part of HiPPO-LegS, each with d_state / blocks states.

    Parameters
    ----------
    d_model
        Number of features H, in and out.
    d_state
        Number of states; with conjugate symmetry P = d_state / 2 of them are stored.
    blocks
        Number of HiPPO-N blocks; the official experiments use 3 to 16.
    C_init
        ``trunc_standard_normal`` and ``lecun_normal`` draw C in the original coordinates of HiPPO and rotate it, with
        E|c|^2 = 2 / d_state and 2 / (d_model d_state) as in the official code;
        ``complex_normal`` draws it in the eigenbasis with E|c|^2 = 1.
    discretization
        ``zoh`` (zero-order hold) or ``bilinear``.
    conj_sym
        Whether to store one mode of each conjugate pair instead of all modes.
    clip_eigs
        Whether the layer keeps the real parts of its eigenvalues at -1e-4 or below.
    dt_min, dt_max
        Smallest and largest initial step; one step is drawn for each mode, log-uniformly.
    seed
        Random seed of the parameters.
    """
    check_sizes(d_model=d_model, d_state=d_state, blocks=blocks)
    check_choice("C_init", C_init, C_INITS)
    check_choice("discretization", discretization, tuple(DISCRETIZATIONS))
    check_interval("dt_min", dt_min, "dt_max", dt_max, inside=(np.finfo(np.float64).tiny, np.inf))
    if d_state % (2 * blocks):
        raise ValueError(f"d_state must be a multiple of 2 * blocks = {2 * blocks}, got {d_state}")
    rng = generator(seed)
    lam, V = _block_hippo(d_state, blocks, conj_sym=conj_sym)
    real_B = rng.standard_normal((d_state, d_model)) / np.sqrt(d_state)  # lecun normal over the states, as upstream
    if C_init == "complex_normal":
        C = complex_normal(rng, (d_model, len(lam)))
    else:
        fan_in = d_state if C_init == "trunc_standard_normal" else d_model * d_state
        C = complex_normal(rng, (d_model, d_state), 2 / fan_in) @ V
    params = {
        "Lambda_re": np.real(lam),
        "Lambda_im": np.imag(lam),
        "B": np.conj(V.T) @ real_B,
        "C": C,
        "D": rng.standard_normal(d_model),
        "log_step": log_uniform(rng, dt_min, dt_max, (len(lam),)),
    }
    return initialized("s5", params, discretization=discretization, conj_sym=conj_sym, clip_eigs=clip_eigs, step_rescale=1.0)


def _block_hippo(d_state: int, blocks: int, *, conj_sym: bool) -> tuple[Complex[np.ndarray, " p"], Complex[np.ndarray, "n p"]]:
    """Return the eigenvalues and eigenvectors of the block-diagonal HiPPO-N matrix."""
    lam, V = normal_part("legs", d_state // blocks)
    if not conj_sym:
        lam, V = np.concatenate([lam, lam.conj()]), np.concatenate([V, V.conj()], axis=1)
    return np.tile(lam, blocks), np.kron(np.eye(blocks), V)


def system(params: Params, options: Options = DEFAULTS) -> RealDiagonalSSM:
    """Return the layer as one system with H inputs and H outputs."""
    check_params("s5", params, SHAPES)
    log_poles, B = _discretized(params, options)
    return RealDiagonalSSM.from_recurrence(log_poles=log_poles, B=B, C=(2 if options.conj_sym else 1) * params["C"], D=diag(params["D"]))


def _discretized(params: Params, options: Options) -> tuple[Complex[Array, " p"], Complex[Array, "p h"]]:
    """Return the log-poles and B of one token."""
    xp = array_namespace(*params.values())
    re = params["Lambda_re"]
    re = xp.minimum(re, xp.full_like(re, CLIP)) if options.clip_eigs else re
    lam = complex_from(re, params["Lambda_im"])
    return DISCRETIZATIONS[options.discretization](lam, params["B"], options.step_rescale * xp.exp(params["log_step"]))


def core_input(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[Array, "l h"]:
    """Return the input itself."""
    check_input(u, check_params("s5", params, SHAPES)["H"])
    return u


def reference(params: Params, u: Float[Array, "l h"], options: Options = DEFAULTS) -> Float[np.ndarray, "l h"]:
    """Run the recurrence of the paper step by step."""
    check_input(u, check_params("s5", params, SHAPES)["H"])
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    lam = (np.minimum(p["Lambda_re"], CLIP) if options.clip_eigs else p["Lambda_re"]) + 1j * p["Lambda_im"]
    step = options.step_rescale * np.exp(p["log_step"])
    if options.discretization == "zoh":
        lam_d = np.exp(lam * step)
        B_d = ((lam_d - 1) / lam)[:, None] * p["B"]
    else:
        lam_d = (1 + step * lam / 2) / (1 - step * lam / 2)
        B_d = (step / (1 - step * lam / 2))[:, None] * p["B"]
    h, y = np.zeros_like(lam), []
    for u_k in to_numpy(u):
        h = lam_d * h + B_d @ u_k
        y.append((2 if options.conj_sym else 1) * (p["C"] @ h).real + p["D"] * u_k)
    return np.stack(y)


def spectrum(params: Params, options: Options = DEFAULTS) -> Spectrum:
    """Return the P stored eigenvalues of Lambda_d."""
    check_params("s5", params, SHAPES)
    return diagonal_spectrum(_discretized(params, options)[0], one_of_each_pair=options.conj_sym)
