r"""A whole nonlinear block about an operating point: what a small deviation from a constant input does to its output.

Block: norm, projections, convolution, selection, recurrence, gate, as a live torch module. On the constant input u0 it settles; then

    h[k+1] = A(x) h[k] + b(x)   becomes   dh[k+1] = A(x0) dh[k] + (A'(x0) h0 + b'(x0)) dx[k],

since step, B, C and gate read x, what enters the recurrence, and never its state. So the poles of the linearized block are the frozen
poles at the operating point, and poles at 0 of the convolution; what the selection changes are the weights of the input, and with them the
zeros. A frequency response of the frozen recurrence leaves that out, the response here has it: all of it by automatic differentiation.
It holds for small deviations, not for texts.

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
"""So many directions run as documents of one batch."""
WINDOW = 64
"""So many channels of a layer are frozen at a time."""
NO_RULE = ("forward AD", "forward mode AD")
"""In what torch says of a function that has no rule for forward-mode automatic differentiation."""
Call = Callable[[Any], Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class SmallSignal:
    """The linearization of a block about a constant input.

    Parameters
    ----------
    operating_point, steady_output
        The constant input u0 and the output y0 that it leads to.
    directions
        Of the deviations, one a row.
    impulse_response
        dy[k] after a unit impulse along each direction at k = 0, once the block has settled.
    omega
        Frequencies 2 pi j / L, rad/token, from 0 to pi.
    frequency_response
        The Fourier transform of the impulse response, as long as it is: exact where ``unfinished`` is 0.
    log_poles
        Of every recurrent layer in the block, by name, frozen at the operating point: the poles of the linearized block, beside those
        at 0 of convolutions. A layer that runs several times has an entry for each run: "name", "name, run 2", ...
    drift
        Largest change of the output on the constant input during the response, relative to its largest entry.
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
        """How the steady output moves with the operating point: the impulse response, summed."""
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
    """The response of a block to small deviations from the constant input ``u0``, and its poles there.

    Draw it with ``plots.impulse(found.impulse_response)`` and ``plots.bode(found.omega[1:], found.frequency_response[1:])``.

    Parameters
    ----------
    module
        A live torch.nn.Module of one or more recurrent layers, (documents, L, d_model) in and (documents, L, p) out, causal. It runs in its
        own precision and in evaluation mode, and is left as it was. Poles of a block with attention are not all found.
    u0
        The operating point, what the block reads for ever.
    directions
        Of the deviations. None: each feature by itself.
    length
        Tokens of the response.
    settle
        Tokens of ``u0`` before the impulse: several times the longest time constant.
    rtol
        How much of its largest entry the output may still change during the response.
    call
        How the module is run on a signal, (documents, L, d_model) -> (documents, L, p), where it needs more than that:
        ``lambda u: block(u, position_ids=...)[0]``. None: ``module(u)``, of a tuple the first.
    layouts
        As `load`.

    Raises
    ------
    TypeError
        If ``module`` is not a torch.nn.Module.
    ValueError
        If sizes do not fit, the block reads in both directions, or it has not settled.
    CheckpointError
        As `load`.

    Examples
    --------
    >>> import torch
    >>> from transformers import MambaConfig, MambaModel
    >>> from ssm_analysis.studies.linearization import small_signal
    >>> model = MambaModel(MambaConfig(hidden_size=4, state_size=2, num_hidden_layers=1, vocab_size=8))
    >>> found = small_signal(model.layers[0].mixer, np.ones(4), length=64, settle=128, rtol=1)
    >>> found.impulse_response.shape, found.frequency_response.shape, found.log_poles[""].shape
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
    with find_layers(module, ReadOptions(layouts=layouts)) as found:
        layers = {group.prefix: found.read(group) for group in found.groups}
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
    """The output from the impulse on without it, (length, p), and what the impulses add to it, (length, p, m)."""
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
    """y = f(u) and f'(u) du, forwards; twice backwards where a function of the module has no rule for forwards."""
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
        if not any(words in str(error) for words in NO_RULE):
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
    """The log-poles of each layer that runs, at the last token of the constant input."""
    constant = _tensor(np.broadcast_to(point, (1, settle, len(point))), next(module.parameters()))
    seen = signals_during(lambda: run(constant), module, list(layers))
    found = {}
    for prefix, calls in seen.items():
        (layer,) = layers[prefix]
        for i, signal in enumerate(calls):
            name = layer.name if i == 0 else f"{layer.name}, run {i + 1}"
            found[name] = _last_moment(layer, signal[0]) if layer.time_varying else layer.spectrum().log_poles
    if not found:
        raise ValueError(f"none of the {len(layers)} recurrent layers of the block ran")
    return found


def _last_moment(layer: Layer, u: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(sys.frozen(-1).log_poles) for sys in layer.windows(u, channels=WINDOW)])


def _not_settled(log_poles: Mapping[str, np.ndarray], settle: int, drift: float) -> str:
    slowest = max(float(np.max(np.real(mu))) for mu in log_poles.values())
    words = f"its slowest pole has a time constant of {-1 / slowest:.3g} tokens" if slowest < 0 else "it has a pole that does not decay"
    return f"after {settle} tokens the block has not settled: its output still moves by {drift:.1e} of its largest entry, and {words}"


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
    found = np.asarray(to_numpy(x), dtype=np.float64)
    if found.ndim != ndim or not np.all(np.isfinite(found)):
        raise ValueError(f"{name} must be finite numbers of shape ({'d_model' if ndim == 1 else 'm, d_model'}), got {found.shape}")
    return found
