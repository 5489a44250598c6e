r"""LRU: a linear recurrent unit with a diagonal complex state and no step size.

    h[k] = Lambda h[k-1] + e^gamma (B u[k]),   y[k] = Re(C h[k]) + D u[k],
    Lambda = exp(-exp(nu) + i exp(theta)),     |Lambda| < 1 for every parameter.

All modes are stored, the real part is taken, and no factor 2 appears. At initialization e^gamma = sqrt(1 - |Lambda|^2),
which keeps the state at the size of the input; afterwards gamma is a parameter of its own.

Glossary
--------
H  d_model, features in and out
N  d_state, modes
nu_log (N), theta_log (N), gamma_log (N)     log of -log|Lambda|, of arg Lambda, and of the input gain
B_re, B_im (N, H), C_re, C_im (H, N), D (H)  input, output and elementwise feed-through matrices

References
----------
Orvieto, Smith, Gu, Fernando, Gulcehre, Pascanu, De, Resurrecting Recurrent Neural Networks for Long Sequences,
arXiv 2303.06349, section 3 and appendix A; names as in the implementation minimal-LRU.
"""

import numpy as np
from jaxtyping import Complex, Float

from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum, diagonal_spectrum
from ssm_analysis.families.base import Layer, initialized
from ssm_analysis.families.shared.facts import Params
from ssm_analysis.families.shared.options import NoOptions
from ssm_analysis.families.shared.parameters import check_input, check_interval, check_params, check_sizes, generator
from ssm_analysis.systems import RealDiagonalSSM
from ssm_analysis.xp import Array, array_namespace, complex_from, diag, double, to_numpy

DEFAULTS = NoOptions()
SHAPES = {
    "nu_log": "N",
    "theta_log": "N",
    "gamma_log": "N",
    "B_re": "N H",
    "B_im": "N H",
    "C_re": "H N",
    "C_im": "H N",
    "D": "H",
}


def init(*, d_model: int = 64, d_state: int = 64, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 6.28, seed: int = 0) -> Layer:
    """Initialize a layer: Lambda uniform by area on the ring r_min <= |Lambda| <= r_max, phases uniform on [0, max_phase].

    Parameters
    ----------
    d_model
        Number of features H, in and out.
    d_state
        Number of modes N.
    r_min, r_max
        Inner and outer radius of the ring; the paper uses 0 and 1 in general, 0.9 and 0.999 for long memory.
    max_phase
        Largest phase, rad/token; the paper reduces it to pi/10 for Path-X.
    seed
        Random seed of the parameters.

    Returns
    -------
    Layer
        A layer with float64 parameters.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    References
    ----------
    Lemma 3.2 and appendix A of the paper; defaults as in minimal-LRU.
    """
    check_sizes(d_model=d_model, d_state=d_state)
    check_interval("r_min", r_min, "r_max", r_max, inside=(0.0, 1.0))
    if not 0 <= max_phase <= 2 * np.pi:
        raise ValueError(f"max_phase must lie between 0 and 2 pi, got {max_phase}")
    rng = generator(seed)
    area, phase = (1 - rng.random(d_state) for _ in range(2))
    limits = np.finfo(np.float64)  # a pole at 0 would have no logarithm, and one on the circle would not decay
    nu = -0.5 * np.log(np.clip(area * (r_max**2 - r_min**2) + r_min**2, limits.tiny, 1 - limits.epsneg))
    params = {
        "nu_log": np.log(nu),
        "theta_log": np.log(np.maximum(max_phase, np.finfo(np.float64).tiny) * phase),
        "gamma_log": 0.5 * np.log(-np.expm1(-2 * nu)),
        "B_re": rng.standard_normal((d_state, d_model)) / np.sqrt(2 * d_model),
        "B_im": rng.standard_normal((d_state, d_model)) / np.sqrt(2 * d_model),
        "C_re": rng.standard_normal((d_model, d_state)) / np.sqrt(d_state),
        "C_im": rng.standard_normal((d_model, d_state)) / np.sqrt(d_state),
        "D": rng.standard_normal(d_model),
    }
    return initialized("lru", params)


def system(params: Params, options: NoOptions = DEFAULTS) -> RealDiagonalSSM:
    """Return the layer as one system with H inputs and H outputs."""
    check_params("lru", params, SHAPES)
    xp = array_namespace(*params.values())
    B = complex_from(params["B_re"], params["B_im"]) * xp.exp(params["gamma_log"])[:, None]
    C = complex_from(params["C_re"], params["C_im"])
    return RealDiagonalSSM.from_recurrence(log_poles=_log_poles(params), B=B, C=C, D=diag(params["D"]))


def core_input(params: Params, u: Float[Array, "l h"], options: NoOptions = DEFAULTS) -> Float[Array, "l h"]:
    """Return the input itself, which drives the recurrence."""
    _check(params, u)
    return u


def reference(params: Params, u: Float[Array, "l h"], options: NoOptions = DEFAULTS) -> Float[np.ndarray, "l h"]:
    """Run the recurrence of the paper step by step."""
    _check(params, u)
    p = {name: to_numpy(double(x)) for name, x in params.items()}
    lam = np.exp(-np.exp(p["nu_log"]) + 1j * np.exp(p["theta_log"]))
    B, C = p["B_re"] + 1j * p["B_im"], p["C_re"] + 1j * p["C_im"]
    h, y = np.zeros_like(lam), []
    for u_k in to_numpy(u):
        h = lam * h + np.exp(p["gamma_log"]) * (B @ u_k)
        y.append((C @ h).real + p["D"] * u_k)
    return np.stack(y)


def spectrum(params: Params, options: NoOptions = DEFAULTS) -> Spectrum:
    """Return all N eigenvalues of Lambda."""
    check_params("lru", params, SHAPES)
    return diagonal_spectrum(_log_poles(params), one_of_each_pair=False)


def _log_poles(params: Params) -> Complex[Array, " n"]:
    """Return the logarithms of the diagonal Lambda."""
    xp = array_namespace(*params.values())
    return complex_from(-xp.exp(params["nu_log"]), xp.exp(params["theta_log"]))


def _check(params: Params, u: Array) -> None:
    check_input(u, check_params("lru", params, SHAPES)["H"])
