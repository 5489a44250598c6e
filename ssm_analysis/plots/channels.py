"""The numbers that a picture of one time-invariant layer is made of: channels from the slowest to the fastest, and their curves."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.gramians.energy import horizon
from ssm_analysis.analyses.gramians.stability import unstable
from ssm_analysis.analyses.responses.frequency import frequency_response
from ssm_analysis.analyses.responses.gains import flattened
from ssm_analysis.analyses.responses.time import impulse_response
from ssm_analysis.families.base import Layer
from ssm_analysis.inspection.poles_of_layers import LayerPoles
from ssm_analysis.systems import LTI, DiagonalSSM, RealDiagonalSSM, StateSpace
from ssm_analysis.systems.base import in_double
from ssm_analysis.xp import to_numpy

CHANNELS, DENSE_CHANNELS = 512, 64
"""Of more channels so many are drawn, evenly spaced from the slowest to the fastest: 2 s for 512 diagonal ones of 64 states, about as
long for 64 with a full A."""
POINTS, WIDE_POINTS, WIDE = 300, 150, 64
"""Frequencies on the even grid; the fewer for matrices of more than 64 rows and columns."""
STEPS = 24
"""Of Lanczos: held to 1 % by the tests; measured 1e-15 for fresh LRU layers of 128 and 256 inputs."""
FINE_POINTS, DENSE_FINE_POINTS = 3000, 600
"""For the channels whose phase is drawn: 0.1 s each."""
BINS_PER_DECADE = 16
"""A step of 15 %."""
LONGEST, LAGS = 16_384, 400
"""Tokens after which a kernel is cut, and lags at which the norm of a matrix-valued one is formed."""
SMALLEST_FREQUENCY, LARGEST_FREQUENCY = 1e-6, 1e-2
"""rad/token, between which the axis of frequency begins."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Channels:
    """The stable channels of a layer, slowest first."""

    layer: str
    system: LTI
    """Their systems, one batch axis."""
    slowest: Float[np.ndarray, " k"]
    """-log|lambda| of the slowest mode of each."""
    total: int
    """Channels that the layer has."""
    stable: int
    """Of these the stable ones, of which ``system`` holds all or, evenly spaced, some."""

    @property
    def wide(self) -> bool:
        """Whether a channel has several inputs or outputs, so that norms stand for its matrices."""
        return self.system.ninputs * self.system.noutputs > 1

    @property
    def words(self) -> str:
        """Return what is drawn of what there is."""
        sys, k = self.system, len(self.slowest)
        what = f"{k:,} of {self.total:,} channels" if k < self.total else f"{k:,} channels" if k > 1 else "one system"
        inputs = f", {sys.ninputs} inputs and {sys.noutputs} outputs" if sys.ninputs * sys.noutputs > 1 else ""
        lost = self.total - self.stable
        unstable_ones = f"; {lost:,} unstable left out" if lost else ""
        return f"{what}{inputs}{unstable_ones}"


def stable_channels(layer: Layer, system: LTI, poles: LayerPoles) -> Channels | None:
    """Return the channels for which gains and norms are defined; None where there is not one."""
    flat = flattened(in_double(system))
    slowest = np.min(-np.real(poles.log_poles).reshape(flat.batch_shape[0], -1), axis=-1)
    stable = np.flatnonzero(~to_numpy(unstable(flat)))
    if not len(stable):
        return None
    order = stable[np.argsort(slowest[stable], kind="stable")]
    most = DENSE_CHANNELS if isinstance(system, StateSpace) else CHANNELS
    if len(order) > most:
        order = order[np.linspace(0, len(order) - 1, most).round().astype(int)]
    return Channels(layer=layer.name, system=flat[order], slowest=slowest[order], total=flat.batch_shape[0], stable=len(stable))


def representatives(count: int) -> dict[str, int]:
    """Return the slowest, the median and the fastest of channels in this order, as far as there are so many."""
    if count >= 3:
        return {"slowest channel": 0, "median channel": count // 2, "fastest channel": count - 1}
    return {"slowest channel": 0, "fastest channel": 1} if count == 2 else {"the system": 0}


def frequencies(found: Channels) -> Float[np.ndarray, " f"]:
    """Return rad/token up to pi, even on a logarithmic axis from where the slowest mode has long settled; of wide systems peaks too."""
    low = np.clip(0.2 * float(np.min(found.slowest)), SMALLEST_FREQUENCY, LARGEST_FREQUENCY)
    points = WIDE_POINTS if min(found.system.ninputs, found.system.noutputs) > WIDE else POINTS
    even = _up_to_pi(low, points)
    if not found.wide or isinstance(found.system, StateSpace):
        return even  # of many channels the median and the band have no sharp peaks
    mu = found.system.log_poles.reshape(-1)
    slowest = mu[np.argsort(-np.real(mu), kind="stable")[:points]]
    return _with_peaks(even, np.abs(np.angle(np.exp(1j * np.imag(slowest)))))


def fine_frequencies(found: Channels, i: int, low: float) -> Float[np.ndarray, " f"]:
    """Return as many frequencies as the phase of channel ``i`` needs, which turns by pi within the width of a peak."""
    even = _up_to_pi(low, DENSE_FINE_POINTS if isinstance(found.system, StateSpace) else FINE_POINTS)
    if isinstance(found.system, StateSpace):
        return even
    mu = found.system.log_poles[i].reshape(-1)
    angle = np.abs(np.angle(np.exp(1j * np.imag(mu))))  # those of S4D go round more than once
    return _with_peaks(even, np.concatenate([angle + k * np.real(mu) for k in (-4, -2, -1, 0, 1, 2, 4)]))


def responses(found: Channels, omega: Float[np.ndarray, " f"]) -> np.ndarray:
    """Return G of every channel, (k, f); of wide systems the largest singular value."""
    if not found.wide:
        return frequency_response(found.system, omega)[..., 0, 0]
    if min(found.system.ninputs, found.system.noutputs) > WIDE and not isinstance(found.system, StateSpace):
        return np.stack([_largest_gains(system, omega) for system in found.system])  # type: ignore[arg-type]
    entries = len(found.slowest) * found.system.ninputs * found.system.noutputs
    block = max(1, 2**22 // entries)  # 64 MiB of complex numbers
    parts = [omega[i : i + block] for i in range(0, len(omega), block)]
    return np.concatenate([np.linalg.svd(frequency_response(found.system, w), compute_uv=False)[..., 0] for w in parts], axis=-1)


def kernel_length(found: Channels) -> int:
    """Return tokens until 99 % of the energy of the most lasting kernel have passed, D aside, and half as many more."""
    passed = to_numpy(horizon(replace(found.system, D=0 * found.system.D)))
    passed = passed[np.isfinite(passed)]
    return int(np.clip(1.5 * np.max(passed), 32, LONGEST)) if len(passed) else 32


def kernels(found: Channels, length: int) -> tuple[Float[np.ndarray, " l"], np.ndarray]:
    """Return lags, and the kernel of every channel, (k, l); of wide systems its Frobenius norm at some lags."""
    if not found.wide:
        return np.arange(length, dtype=np.float64), np.real(impulse_response(found.system, length))[..., 0, 0]
    lags = np.unique(np.geomspace(1, length - 1, LAGS).round())
    norm = np.stack([_kernel_norms(system, lags) for system in found.system])
    return np.concatenate([[0.0], lags]), norm


def smoothed(lags: Float[np.ndarray, " l"], K: np.ndarray) -> tuple[Float[np.ndarray, " b"], Float[np.ndarray, "k b"]]:
    """Return the root mean square of kernels over lags within 7 % of each other: their size without their oscillation."""
    edges = np.unique(np.geomspace(1, len(lags), 1 + math.ceil(BINS_PER_DECADE * math.log10(max(len(lags), 2)))).round().astype(int))
    starts = np.concatenate([[0], edges[:-1]])
    counts = np.diff([*starts, len(lags)])
    middle = np.add.reduceat(lags, starts) / counts
    return middle, np.sqrt(np.add.reduceat(np.abs(K) ** 2, starts, axis=-1) / counts)


def _up_to_pi(low: float, points: int) -> Float[np.ndarray, " f"]:
    even = np.geomspace(low, math.pi, points)
    even[-1] = math.pi
    return even


def _largest_gains(sys: DiagonalSSM | RealDiagonalSSM, omega: Float[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
    """Return the largest singular values of G(e^{i omega}) to drawing accuracy: ``STEPS`` steps of Lanczos for G* G, for all at once.

    G = C (z - Lambda)^{-1} B + D is never formed: of 256 inputs and outputs that and the singular values took 50 s, this 2 s.
    """
    modes = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    B, C, D = modes.B, modes.C, modes.D
    weight = 1 / (np.exp(1j * omega)[:, None] - np.exp(modes.log_poles))

    def squared(v: np.ndarray) -> np.ndarray:
        y = ((v @ B.T) * weight) @ C.T + v @ D.T
        return ((y @ np.conj(C)) * np.conj(weight)) @ np.conj(B) + y @ np.conj(D)

    start = np.random.default_rng(0).standard_normal((1, B.shape[-1])) + 0j * weight[:, :1]
    basis = [start / np.linalg.norm(start, axis=-1, keepdims=True)]
    T = np.zeros((len(omega), STEPS, STEPS))
    for j in range(STEPS):
        w = squared(basis[j])
        T[:, j, j] = np.sum(np.real(np.conj(basis[j]) * w), axis=-1)
        for q in basis:
            w = w - np.sum(np.conj(q) * w, axis=-1, keepdims=True) * q
        size = np.linalg.norm(w, axis=-1, keepdims=True)
        basis.append(w / np.maximum(size, 1e-300))
        if j + 1 < STEPS:
            T[:, j, j + 1] = T[:, j + 1, j] = size[:, 0]
    return np.sqrt(np.maximum(np.linalg.eigvalsh(T)[:, -1], 0.0))


def _with_peaks(even: Float[np.ndarray, " f"], peaks: Float[np.ndarray, " k"]) -> Float[np.ndarray, " _"]:
    return np.unique(np.concatenate([even, peaks[(peaks > even[0]) & (peaks < math.pi)]]))


def _kernel_norms(sys: LTI, lags: Float[np.ndarray, " l"]) -> Float[np.ndarray, " m"]:
    """Return ||D||_F, then ||C A^(k-1) B||_F, whose square is sum_ij conj(v_i) (C*C)_ij (BB*)_ji v_j with v = lambda^(k-1)."""
    first = np.linalg.norm(sys.D)
    if isinstance(sys, StateSpace):
        whole = np.linalg.norm(impulse_response(sys, int(lags[-1]) + 1), axis=(-2, -1))
        return np.concatenate([[first], whole[lags.astype(int)]])
    modes = sys.expand() if isinstance(sys, RealDiagonalSSM) else sys
    weights = (np.conj(modes.C.T) @ modes.C) * np.conj(modes.B @ np.conj(modes.B.T))
    powers = np.exp(modes.log_poles * (lags[:, None] - 1))
    energy = np.real(np.sum(np.conj(powers) * (powers @ weights.T), axis=-1))
    return np.concatenate([[first], np.sqrt(np.maximum(energy, 0.0))])
