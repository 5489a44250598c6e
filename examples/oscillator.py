r"""A family of one's own in one file: damped oscillators, driven by a linear map of the input and read out by another.

    x''(t) + 2 zeta w x'(t) + w^2 x(t) = w^2 (B u)(t),   y = C x + D u,     per oscillator, u held over each token,
    w = exp(log_frequency),   zeta = sigmoid(damping_logit) < 1.

Its poles are the pair s = w (-zeta +- i sqrt(1 - zeta^2)), so by partial fractions x = 2 Re(z) with the complex mode

    z' = s z + w^2 / (2 i w sqrt(1 - zeta^2)) B u,

of which zero-order hold over one token makes the recurrence. ``FAMILIES["oscillator"] = FAMILY`` is all that registers it.

Glossary
--------
H  features in and out
N  oscillators
log_frequency (N), damping_logit (N)     w in rad/token and zeta before their transforms
B (N, H), C (H, N), D (H)                input, output and elementwise feed-through matrices
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import expm

from ssm_analysis import Layer, Layout, RealDiagonalSSM
from ssm_analysis.analyses.spectrum.eigenvalues import Spectrum, diagonal_spectrum
from ssm_analysis.families import Features, TimeInvariantFamily
from ssm_analysis.families.shared.facts import DeadUnits, Facts, FreshTensor, Params
from ssm_analysis.families.shared.options import NoOptions
from ssm_analysis.families.shared.parameters import check_params
from ssm_analysis.families.shared.transforms import apply_transform
from ssm_analysis.systems.discretization import zero_order_hold
from ssm_analysis.xp import Array, array_namespace, complex_from, diag

DAMPING_LOGIT = -2.0
"""At initialization: a damping of 0.12."""
OPTIONS = NoOptions()
SHAPES = {"log_frequency": "N", "damping_logit": "N", "B": "N H", "C": "H N", "D": "H"}


def init(*, d_model: int = 16, d_state: int = 32, seed: int = 0) -> Layer:
    """Return a fresh layer: frequencies log-uniform from 0.01 to 1 rad/token, damping 0.12."""
    rng = np.random.default_rng(seed)
    params = {
        "log_frequency": rng.uniform(np.log(0.01), 0, d_state),
        "damping_logit": np.full(d_state, DAMPING_LOGIT),
        "B": rng.standard_normal((d_state, d_model)) / np.sqrt(d_model),
        "C": rng.standard_normal((d_model, d_state)) / np.sqrt(d_state),
        "D": rng.standard_normal(d_model),
    }
    return Layer(family="oscillator", params=params)


def system(params: Params, options: NoOptions = OPTIONS) -> RealDiagonalSSM:
    """Return one system with H inputs and outputs, a complex mode for each oscillator."""
    check_params("oscillator", params, SHAPES)
    log_poles, B = _discretized(params)
    C = complex_from(2 * params["C"], 0 * params["C"])
    return RealDiagonalSSM.from_recurrence(log_poles=log_poles, B=B, C=C, D=diag(params["D"]))


def _discretized(params: Params) -> tuple[Array, Array]:
    """Return the log-poles and B of the complex modes, the input held for one token."""
    xp = array_namespace(*params.values())
    w, zeta = xp.exp(params["log_frequency"]), apply_transform("sigmoid", params["damping_logit"])
    ringing = w * xp.sqrt(1 - zeta**2)
    gain = complex_from(0 * w, -(w**2) / (2 * ringing))
    return zero_order_hold(complex_from(-zeta * w, ringing), gain[:, None] * params["B"], 0 * w + 1)


def core_input(params: Params, u: Array, options: NoOptions = OPTIONS) -> Array:
    """Return the input itself."""
    return u


def reference(params: Params, u: Array, options: NoOptions = OPTIONS) -> np.ndarray:
    """Return the output, from position and velocity of each oscillator, step by step, by the exponential of their own real matrix."""
    w, zeta = np.exp(params["log_frequency"]), 1 / (1 + np.exp(-params["damping_logit"]))
    flows = [expm(np.asarray([[0, 1, 0], [-(a**2), -2 * z * a, a**2], [0, 0, 0]])) for a, z in zip(w, zeta, strict=True)]
    flow = np.stack(flows)  # the third state is the input, which is held
    x, y = np.zeros((len(w), 2)), []
    for u_k in u:
        x = (flow @ np.column_stack([x, params["B"] @ u_k])[..., None])[:, :2, 0]
        y.append(params["C"] @ x[:, 0] + params["D"] * u_k)
    return np.stack(y)


def spectrum(params: Params, options: NoOptions = OPTIONS) -> Spectrum:
    """Return one eigenvalue of each conjugate pair."""
    return diagonal_spectrum(_discretized(params)[0], one_of_each_pair=True)


def width(params: Params, options: NoOptions) -> int:
    """Return the number of features in and out."""
    return params["B"].shape[1]


def dead_oscillators(params: Params, options: NoOptions) -> DeadUnits:
    """Return the oscillators that nothing drives or nothing reads."""
    none = (np.abs(params["B"]).max(axis=1) == 0) | (np.abs(params["C"]).max(axis=0) == 0)
    return DeadUnits(dead=none, unit="oscillators", why="all weights in or out are 0")


def fresh(params: Params, options: NoOptions) -> Iterator[FreshTensor]:
    """Yield the damping if it is that of the initialization."""
    if np.all(params["damping_logit"] == DAMPING_LOGIT):
        yield FreshTensor(name="damping_logit", words=f"{DAMPING_LOGIT:g} everywhere, as at initialization", suspicious=True)


FAMILY = TimeInvariantFamily(
    name="oscillator",
    title="Oscillators",
    paper="",
    features=Features(
        dynamics="LTI",
        channels="MIMO",
        parametrization="frequency exp(.), damping sigmoid(.)",
        discretization="zero-order hold",
        structure="2 x 2 blocks",
        initialization="frequencies log-uniform in [0.01, 1], damping 0.12",
        implementation="",
    ),
    options=NoOptions,
    init=init,
    system=system,
    core_input=core_input,
    reference=reference,
    spectrum=spectrum,
    initial_spectrum=spectrum,
    layouts=(Layout(title="oscillators", family="oscillator", shapes=SHAPES),),
    facts=Facts(width=width, dead=dead_oscillators, fresh=fresh),
)
