r"""The decay of diagonal modes from the numbers that are stored: exact signs, and enclosures of the rates.

-Re log(lambda) = delta r for the zero-order hold, with r = -Re a; for the bilinear rule, with w = delta a / 2,

    1 - |lambda|^2 = q = -4 Re w / |1 - w|^2,   -Re log(lambda) = -log(1 - q) / 2 in [q/2 + q^2/4, q / (2 (1 - q))],

and for the LRU exp(nu). No exponential is rounded on the way to a sign.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ssm_analysis.certificates.rounding import Interval, exp, sigmoid, softplus
from ssm_analysis.families.base import Layer
from ssm_analysis.families.s5.model import CLIP
from ssm_analysis.families.shared.transforms import RELU_FLOOR, tile_copies
from ssm_analysis.systems import DiagonalSSM, RealDiagonalSSM
from ssm_analysis.xp import double, real, to_numpy


@dataclass(frozen=True, eq=False, kw_only=True)
class Decay:
    """How each mode of a diagonal system decays.

    Parameters
    ----------
    sign
        Exact sign of Re log(lambda), (*batch, n): -1 decays, 0 stays, 1 grows.
    rate
        Enclosure of -Re log(lambda), per token.
    factors
        Exact numbers whose product has that sign (positive factors left out); shapes broadcast to that of ``sign``.
    formula
        What they are.
    theorem
        Key of the theorem that the sign rests on.
    """

    sign: np.ndarray
    rate: Interval
    factors: tuple[np.ndarray, ...]
    formula: str
    theorem: str = "sign"


def decay_of_system(sys: DiagonalSSM | RealDiagonalSSM) -> Decay:
    """The log-poles are the data: their real parts have the sign."""
    re = to_numpy(double(real(sys.log_poles))).astype(np.float64)
    return Decay(sign=np.sign(re).astype(int), rate=Interval.exact(-re), factors=(re,), formula="Re log(lambda)")


def decay_of_s4d(layer: Layer) -> Decay:
    """Rates f(A_real) and steps g(inv_dt): transforms other than ``none`` are positive for every number."""
    p, options = {name: to_numpy(double(x)) for name, x in layer.params.items()}, layer.options
    real_transform, dt_transform = options.get("real_transform", "exp"), options.get("dt_transform", "exp")
    H = p["inv_dt"].shape[0]
    stored = tile_copies(p["A_real"], H)
    rate = _tiled(_transformed(real_transform, p["A_real"]), H)
    delta = _transformed(dt_transform, p["inv_dt"])
    decides = [x for name, x in ((real_transform, stored), (dt_transform, p["inv_dt"])) if name == "none"]
    factors = (-np.ones_like(stored), *decides)
    if options.get("disc", "zoh") == "bilinear":
        zero = np.zeros_like(p["A_real"])
        imag_part = _transformed(options.get("imag_transform", "none"), p["A_imag"]) if "A_imag" in p else Interval.exact(zero)
        found = _bilinear_rate(delta * rate, delta * _tiled(imag_part, H))
    else:
        found = delta * rate
    return Decay(sign=_sign(factors), rate=found, factors=factors, formula="the sign of -delta A_real, positive transforms left out")


def decay_of_s5(layer: Layer) -> Decay:
    """Lambda_re has the sign; the steps exp(log_step) are positive."""
    p, options = {name: to_numpy(double(x)) for name, x in layer.params.items()}, layer.options
    re = np.minimum(p["Lambda_re"], CLIP) if options.get("clip_eigs", False) else p["Lambda_re"]
    rescale = float(options.get("step_rescale", 1.0))
    delta = exp(Interval.exact(p["log_step"])) * Interval.exact(np.full(re.shape, rescale))
    rate = delta * Interval.exact(-re)
    if options.get("discretization", "zoh") == "bilinear":
        rate = _bilinear_rate(rate, delta * Interval.exact(p["Lambda_im"]))
    factors = (re, np.full(re.shape, rescale))
    return Decay(sign=_sign(factors), rate=rate, factors=factors, formula="Lambda_re step_rescale")


def decay_of_lru(layer: Layer) -> Decay:
    """exp(nu) is positive whatever nu is."""
    nu = to_numpy(double(layer.params["nu_log"]))
    minus = -np.ones_like(nu)
    return Decay(sign=minus.astype(int), rate=exp(Interval.exact(nu)), factors=(minus,), formula="-exp(nu)", theorem="log-log")


DECAYS: dict[str, Callable[[Layer], Decay]] = {"s4d": decay_of_s4d, "s5": decay_of_s5, "lru": decay_of_lru}
"""Families whose layers are diagonal."""


def transform_sign(name: str, x: np.ndarray) -> np.ndarray:
    """Exact sign of f(x)."""
    return np.sign(x).astype(int) if name == "none" else np.ones(np.shape(x), dtype=int)


def _transformed(name: str, x: np.ndarray) -> Interval:
    exact = Interval.exact(x)
    if name == "relu":
        return Interval.exact(np.maximum(x, 0.0)) + Interval.exact(np.full(x.shape, RELU_FLOOR))
    return {"exp": exp, "softplus": softplus, "sigmoid": sigmoid, "none": lambda v: v}[name](exact)


def _tiled(x: Interval, H: int) -> Interval:
    return Interval(tile_copies(x.lo, H), tile_copies(x.hi, H))


def _sign(factors: tuple[np.ndarray, ...]) -> np.ndarray:
    sign = np.ones(np.broadcast_shapes(*(f.shape for f in factors)), dtype=int)
    for factor in factors:
        sign = sign * np.sign(factor).astype(int)
    return sign


def _bilinear_rate(decay: Interval, angle: Interval) -> Interval:
    """From delta r and delta Im a, of whatever sign; a pole outside the circle has a negative rate."""
    half = Interval.exact(np.full(decay.lo.shape, 0.5))
    x, y = decay * half, angle * half  # w = -x + i y
    size = Interval(np.maximum(-x.hi, x.lo), np.maximum(np.abs(x.lo), np.abs(x.hi)))
    size = Interval(np.maximum(size.lo, 0.0), size.hi)
    one = Interval.exact(np.ones(x.lo.shape))
    q = (Interval.exact(np.full(x.lo.shape, 4.0)) * size).over((one + size).square() + y.square())
    q = Interval(q.lo, np.minimum(q.hi, 1.0))
    low = q * half + (q * half).square()
    high = (q * half).over(one - q)
    rate = Interval(low.lo, np.where(q.hi < 1, high.hi, np.inf))
    grows, decays = x.hi < 0, x.lo > 0
    straddles = ~(grows | decays)
    bound = np.where(straddles, rate.hi, 0.0)
    return Interval(np.where(grows, -rate.hi, np.where(straddles, -bound, rate.lo)), np.where(grows, -rate.lo, rate.hi))
