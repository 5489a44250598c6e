"""Parameters that equal those of a fresh initialization, to the precision in which they can be stored."""

from collections.abc import Iterator

import numpy as np

from ssm_analysis.families.base import Layer
from ssm_analysis.families.s4.spectrum import measure_of
from ssm_analysis.families.shared.hippo import normal_part
from ssm_analysis.xp import to_numpy

ROUNDED = 2.0**-8
"""Half the distance of neighboring bfloat16 numbers, relative to them: as near as a stored copy comes to what it was."""
EXACT = 2.0**-20
"""The same of float32, with room for the arithmetic of an initialization that runs in it."""
Fresh = Iterator[tuple[str, str, bool]]


def fresh_tensors(layer: Layer) -> Fresh:
    """Name, what it equals in words, and whether that is suspicious: training moves it in every published model."""
    p = {name: to_numpy(x) for name, x in layer.params.items()}
    match layer.family:
        case "s6":
            yield from _mamba(p)
        case "mamba2":
            yield from _mamba2(p)
        case "s4":
            yield from _s4(layer)
        case "s4d":
            yield from _s4d(layer, p)
        case "s5":
            yield from _s5(p)
        case "lru":
            yield from _lru(p)


def _mamba(p: dict[str, np.ndarray]) -> Fresh:
    yield from _rates(p["A_log"].reshape(-1, p["A_log"].shape[-1]), "log(1..d_state) in every channel, the initialization of Mamba")
    yield from _constant("dt_proj.bias", next(p[name] for name in ("dt_proj.bias", "dt_proj_bias") if name in p))
    yield from _ones(p)


def _mamba2(p: dict[str, np.ndarray]) -> Fresh:
    yield from _rates(p["A_log"][None], "log(1..heads), the initialization of transformers")
    yield from _constant("dt_bias", p["dt_bias"])
    yield from _ones(p)


def _rates(A_log: np.ndarray, words: str) -> Fresh:
    n = A_log.shape[-1]
    if n > 1 and _close(A_log, np.log(np.arange(1, n + 1.0))):
        yield "A_log", words, True
    elif A_log.size > 1 and np.all(A_log == A_log.flat[0]):
        yield "A_log", f"{A_log.flat[0]:.6g} everywhere", True


def _constant(name: str, x: np.ndarray) -> Fresh:
    if x.size > 1 and np.all(x == x.flat[0]):
        yield name, f"{x.flat[0]:.6g} everywhere" + (", what transformers puts there before it loads" if x.flat[0] == 1 else ""), True


def _ones(p: dict[str, np.ndarray]) -> Fresh:
    if p["D"].size > 1 and np.all(p["D"] == 1):
        yield "D", "1 everywhere, as at initialization", False


def _s4(layer: Layer) -> Fresh:
    options = layer.options
    if "Q" in layer.params or not options.get("conj_sym", True):
        return
    try:
        measure = measure_of(
            layer.params, real_transform=options.get("real_transform", "exp"), imag_transform=options.get("imag_transform", "none")
        )
    except ValueError:
        return
    yield "A", f"HiPPO ({measure}) as at initialization: not trained, or with learning rate 0", False


def _s4d(layer: Layer, p: dict[str, np.ndarray]) -> Fresh:
    if "A_imag" not in p or layer.options.get("imag_transform", "none") != "none":
        return
    frequency, n = np.abs(p["A_imag"]), p["A_imag"].shape[-1]
    known = {
        "S4D-Lin": np.pi * np.arange(n),
        "S4D-Inv": 2 * n / np.pi * (2 * n / (2 * np.arange(n) + 1) - 1),
        "S4D-LegS": np.sort(-np.imag(normal_part("legs", 2 * n)[0])),
    }
    for name, wanted in known.items():
        if np.allclose(np.sort(frequency, axis=-1), np.sort(wanted), rtol=EXACT, atol=2e-4):  # upstream clamps at 1e-4
            yield "A_imag", f"that of {name} as at initialization: not trained, or with learning rate 0", False


def _s5(p: dict[str, np.ndarray]) -> Fresh:
    if np.allclose(p["Lambda_re"], -0.5, rtol=EXACT, atol=0):
        yield "Lambda_re", "-1/2 everywhere, as at initialization: not trained, or with learning rate 0", False


def _lru(p: dict[str, np.ndarray]) -> Fresh:
    wanted = 0.5 * np.log(-np.expm1(-2 * np.exp(p["nu_log"])))
    if _close(p["gamma_log"], wanted, EXACT * 16):
        yield "gamma_log", "log sqrt(1 - |lambda|^2) in every state, as at initialization", False


def _close(x: np.ndarray, wanted: np.ndarray, rtol: float = ROUNDED) -> bool:
    return bool(np.all(np.abs(x - wanted) <= rtol * np.abs(wanted) + EXACT))
