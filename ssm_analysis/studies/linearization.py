r"""The linearization of a whole nonlinear block about a constant input: how a small deviation of the input changes the output.

A block is a live torch module of norm, projections, convolution, selection, recurrence and gate. It settles on the constant input u0; then

    h[k+1] = A(x) h[k] + b(x)   becomes   dh[k+1] = A(x0) dh[k] + (A'(x0) h0 + b'(x0)) dx[k],

because step, B, C and gate depend on the input x of the recurrence and never on its state h. So the poles of the linearized block are
the poles of the recurrence frozen at the operating point, and poles of the convolution at 0. The selection changes the input weights,
and with them the zeros. The frequency response of the frozen recurrence omits this change; the response here includes it, by automatic
differentiation. It holds for small deviations, not for texts.

References
----------
Franklin, Powell, Emami-Naeini, Feedback Control of Dynamic Systems, section 9.2 (small-signal linearization).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Complex, Float, Inexact

from ssm_analysis.checkpoint.capture import left_as_it_was, signals_during
from ssm_analysis.checkpoint.containers.in_memory import is_module
from ssm_analysis.checkpoint.containers.torch_files import to_numpy as numbers
from ssm_analysis.checkpoint.loading import find_layers
from ssm_analysis.checkpoint.read_options import ReadOptions
from ssm_analysis.families.base import Layer
from ssm_analysis.families.shared.layouts import REVERSE, Layout
from ssm_analysis.xp import Array, is_array, to_numpy

TOGETHER = 16
"""Number of directions that run as the documents of one batch."""
WINDOW = 64
"""Number of channels of a layer that are frozen at a time."""
NO_RULE = ("forward AD", "forward mode AD")
"""Phrases of torch's own error for a function without a rule for forward-mode automatic differentiation; it has no error type."""
Call = Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class SmallSignal:
    """The linearization of a block about a constant input.

    Parameters
    ----------
    operating_point, steady_output
        The constant input u0, and the output y0 on which the block settles.
    directions
        Directions of the deviations from u0, one in each row.
    impulse_response
        Change dy[k] of the output after a unit impulse along each direction at k = 0, once the block has settled.
    omega
        Frequencies 2 pi j / L, rad/token, from 0 to pi.
    frequency_response
        Fourier transform of the L tokens of the impulse response; exact where ``unfinished`` is 0.
    log_poles
        Log-poles of every recurrent layer in the block, by name, frozen at the operating point. Apart from poles of convolutions at 0
        they are the poles of the linearized block. A layer that runs several times has an entry for each run: "name", "name, run 2", ...
    drift
        Largest change of the output on the constant input during the L tokens of the response, relative to its largest entry.
    unfinished
        Largest entry of the impulse response at its last token, relative to its largest.
    """

    operating_point: Float[np.ndarray, " d_model"]
    steady_output: Float[np.ndarray, " p"]
    directions: Float[np.ndarray, "m d_model"]
    impulse_response: Float[np.ndarray, "l p m"]
    omega: Float[np.ndarray, " f"]
    frequency_response: Complex[np.ndarray, "f p m"]
    log_poles: Mapping[str, Inexact[np.ndarray, "..."]]
    drift: float
    unfinished: float

    @property
    def dcgain(self) -> Float[np.ndarray, "p m"]:
        """Return the derivative of the steady output by the operating point, the sum of the impulse response."""
        return np.sum(self.impulse_response, axis=0)


def small_signal(
    module: Any,
    u0: Float[Array, " d_model"],
    *,
    directions: Float[Array, "m d_model"] | None = None,
    length: int = 256,
    settle: int = 1024,
    rtol: float = 1e-4,
    call: Call | None = None,
    layouts: Sequence[Layout] = (),
) -> SmallSignal:
    """Linearize a block about the constant input ``u0``: its response to small deviations, and its poles.

    Draw it with ``plots.impulse(block.impulse_response)`` and ``plots.bode(block.omega[1:], block.frequency_response[1:])``.

    Parameters
    ----------
    module
        A live, causal torch.nn.Module with one or more recurrent layers, which maps (documents, L, d_model) to (documents, L, p). It runs
        in its own precision and in evaluation mode, and its mode is restored. Attention in the block has poles that are not reported.
    u0
        The operating point: the constant input of the block.
    directions
        Directions of the deviations from ``u0``, one in each row; by default each feature by itself.
    length
        Number of tokens of the response.
    settle
        Number of tokens of ``u0`` before the impulse. Choose several times the longest time constant.
    rtol
        Largest change of the output on ``u0`` during the response that still counts as settled, relative to its largest entry.
    call
        Function that runs the module on a signal, (documents, L, d_model) -> (documents, L, p), for a module that needs further
        arguments: ``lambda u: block(u, position_ids=...)[0]``. By default ``module(u)``, or its first entry if it is a tuple.
    layouts
        Layouts of your own, tried before those of the families, as in `load`.

    Returns
    -------
    SmallSignal
        Impulse and frequency response, poles, and two numbers that say how far both can be trusted: ``drift`` and ``unfinished``.

    Raises
    ------
    TypeError
        If ``module`` is not a torch.nn.Module.
    ValueError
        If sizes do not fit, the block reads in both directions, none of its recurrent layers ran, or it has not settled.
    CheckpointError
        If the module holds no recurrent layer that `load` can read.

    References
    ----------
    Franklin, Powell, Emami-Naeini, Feedback Control of Dynamic Systems, section 9.2.

    Examples
    --------
    >>> import torch
    >>> from transformers import MambaConfig, MambaModel
    >>> from ssm_analysis.studies.linearization import small_signal
    >>> model = MambaModel(MambaConfig(hidden_size=4, state_size=2, num_hidden_layers=1, vocab_size=8))
    >>> block = small_signal(model.layers[0].mixer, np.ones(4), length=64, settle=128, rtol=1)
    >>> block.impulse_response.shape, block.frequency_response.shape, block.log_poles[""].shape
    ((64, 4, 4), (33, 4, 4), (8, 2))
    """
    if not is_module(module):
        raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
    for name, tokens in (("length", length), ("settle", settle)):
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 2:
            raise ValueError(f"{name} must be an integer from 2 on, got {tokens!r}")
    point = _vectors("u0", u0, 1)
    along = np.eye(len(point)) if directions is None else _vectors("directions", directions, 2)
    if along.shape[1:] != point.shape or not len(along):
        raise ValueError(f"directions must have shape (m, {len(point)}), one deviation from u0 a row, got {along.shape}")
    run = _plain_call(module) if call is None else call
    with find_layers(module, ReadOptions(layouts=layouts)) as finder:
        layers = {group.prefix: finder.read(group) for group in finder.groups}
    both = [layer.name for here in layers.values() for layer in here if layer.name.endswith(REVERSE)]
    if both:
        raise ValueError(f"the block must read in one direction, and {both[0]!r} reads from the end: it never settles on a past")
    log_poles = _frozen(module, layers, run, point, settle)
    steady, response = _responses(module, run, point, along, settle, length)
    drift = _share(np.max(np.abs(steady - steady[-1])), steady)
    if not drift <= rtol:
        raise ValueError(f"{_not_settled(log_poles, settle, drift)}; give it a longer settle, or a larger rtol")
    return SmallSignal(
        operating_point=point,
        steady_output=steady[-1],
        directions=along,
        impulse_response=response,
        omega=2 * np.pi * np.fft.rfftfreq(length),
        frequency_response=np.fft.rfft(response, axis=0),
        log_poles=log_poles,
        drift=drift,
        unfinished=_share(np.max(np.abs(response[-1])), response),
    )


def _responses(module: Any, run: Call, point: np.ndarray, along: np.ndarray, settle: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the output without an impulse, (length, p), and the change that each impulse makes, (length, p, m), from the impulse on."""
    like, parts, steady = next(module.parameters()), [], np.zeros(0)

    def in_evaluation_mode(u: Any) -> Any:
        with left_as_it_was(module):
            module.eval()
            return run(u)

    for i in range(0, len(along), TOGETHER):
        deviations = np.zeros((len(along[i : i + TOGETHER]), settle + length, len(point)))
        deviations[:, settle] = along[i : i + TOGETHER]
        constant = np.broadcast_to(point, deviations.shape)
        y, dy = _directional_derivative(in_evaluation_mode, _tensor(constant, like), _tensor(deviations, like))
        steady = numbers(y)[0, settle:]
        parts.append(numbers(dy)[:, settle:])
    return steady, np.moveaxis(np.concatenate(parts), 0, -1)


def _directional_derivative(run: Call, u: Any, du: Any) -> tuple[Any, Any]:
    """Return y = f(u) and f'(u) du, in forward mode; by two reverse passes where a function of the module has no forward rule."""
    import torch
    from torch.autograd import forward_ad

    try:
        with torch.no_grad(), forward_ad.dual_level():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # torch's own, at its first dual number
                dual = forward_ad.make_dual(u, du)
            y, dy = forward_ad.unpack_dual(run(dual))
            return y, torch.zeros_like(y) if dy is None else dy
    except (RuntimeError, NotImplementedError) as error:
        if not any(phrase in str(error) for phrase in NO_RULE):
            raise
    with torch.enable_grad():
        u = u.requires_grad_()
        y = run(u)
        weights = torch.zeros_like(y, requires_grad=True)
        (back,) = torch.autograd.grad(y, u, weights, create_graph=True)  # f'(u)^T weights: linear in the weights, whatever they are
        (dy,) = torch.autograd.grad(back, weights, du)
    return y.detach(), dy


def _frozen(
    module: Any, layers: Mapping[str, Sequence[Layer]], run: Call, point: np.ndarray, settle: int
) -> dict[str, Inexact[np.ndarray, "..."]]:
    """Return the log-poles of each layer that runs, frozen at the last token of the constant input."""
    constant = _tensor(np.broadcast_to(point, (1, settle, len(point))), next(module.parameters()))
    signals = signals_during(lambda: run(constant), module, list(layers))
    log_poles = {}
    for prefix, calls in signals.items():
        (layer,) = layers[prefix]
        for i, signal in enumerate(calls):
            name = layer.name if i == 0 else f"{layer.name}, run {i + 1}"
            log_poles[name] = _last_moment(layer, signal[0]) if layer.time_varying else layer.spectrum().log_poles
    if not log_poles:
        raise ValueError(f"none of the {len(layers)} recurrent layers of the block ran")
    return log_poles


def _last_moment(layer: Layer, u: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(sys.frozen(-1).log_poles) for sys in layer.windows(u, channels=WINDOW)])


def _not_settled(log_poles: Mapping[str, np.ndarray], settle: int, drift: float) -> str:
    slowest = max(float(np.max(np.real(mu))) for mu in log_poles.values())
    reason = f"its slowest pole has a time constant of {-1 / slowest:.3g} tokens" if slowest < 0 else "it has a pole that does not decay"
    return f"after {settle} tokens the block has not settled: its output still moves by {drift:.1e} of its largest entry, and {reason}"


def _share(part: float, whole: np.ndarray) -> float:
    largest = float(np.max(np.abs(whole)))
    return float(part) / largest if largest else 0.0


def _plain_call(module: Any) -> Call:
    features_first = getattr(module, "transposed", False)  # state-spaces/s4: (documents, features, L)

    def run(u: Any) -> Any:
        y = module(u.mT if features_first else u)
        y = y[0] if isinstance(y, tuple) else y
        return y.mT if features_first else y

    return run


def _tensor(x: np.ndarray, like: Any) -> Any:
    import torch

    return torch.tensor(np.ascontiguousarray(x), dtype=like.real.dtype, device=like.device)


def _vectors(name: str, x: Array, ndim: int) -> np.ndarray:
    if not is_array(x):
        raise TypeError(f"{name} must be an array, got {type(x).__name__}")
    vectors = np.asarray(to_numpy(x), dtype=np.float64)
    if vectors.ndim != ndim or not np.all(np.isfinite(vectors)):
        raise ValueError(f"{name} must be finite numbers of shape ({'d_model' if ndim == 1 else 'm, d_model'}), got {vectors.shape}")
    return vectors
