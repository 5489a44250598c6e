r"""Inputs that come close to the worst: the other side of two-sided numbers, and what refutes along an input.

On a ball the linearization of a function is largest in the direction of its gradient, at full radius; repeating that
(the conditional gradient method with full steps) settles within a few rounds. One window of tokens for each channel, all of them
in one document, block behind block, so that one pass through the exported system serves all channels. Where torch is not
installed the random windows that the search starts from are all there is. Every value that is reported is computed anew along
the input that is reported, in numpy.
"""

import importlib.util
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ssm_analysis.certificates.input_set import InputSet
from ssm_analysis.certificates.question import Question
from ssm_analysis.certificates.selective import Example
from ssm_analysis.families.base import Layer
from ssm_analysis.xp import double, to_numpy

ROUNDS = 10
STARTS = 8
"""Channels with the smallest certified rates that are searched for a slow input."""
STATES = 96
"""Channels, evenly spaced, that are searched for large states and for the ends of the step."""
ENTRIES = 2**22
"""Entries of the exported system at a time."""
LONGEST = 2**16
"""Longest input that is written out, in tokens."""

Index = tuple[int, ...]
Objective = Callable[[Any, Any, Any], Any]
"""(log_poles, drive, library) of some steps -> what is to be large."""


def slow_inputs(question: Question, rate: np.ndarray) -> Example:
    """The slowest decay that was found, and its input: one window of tokens."""
    layer, inputs = lifted(question), question.inputs
    assert inputs is not None
    flat = np.argsort(np.reshape(rate, -1), kind="stable")[:STARTS]
    channels = [tuple(int(k) for k in np.unravel_index(i, rate.shape)) for i in flat]
    windows = _ascend(layer, inputs, channels, lambda mu, drive, xp: mu, taps_of(layer), seed=question.seed)
    found = [attained_rate(layer, u) for u in windows]
    return min(found, key=lambda example: example.value)


def attained_rate(layer: Layer, u: np.ndarray) -> Example:
    """The smallest -log(lambda) along u."""
    along = layer.along(u)
    rates = -np.broadcast_to(along.log_poles, along.B.shape[:-1])
    where = np.unravel_index(np.argmin(rates), rates.shape)
    return Example(u=u, index=tuple(int(i) for i in where[1:]), value=float(rates[where]))


def large_states(question: Question, state: np.ndarray) -> tuple[Example, np.ndarray]:
    """The largest states that were found, by channel, and the input of the largest of all.

    Constant inputs, which settle at tau, and windows with the largest single push. ``state`` holds the certified bounds,
    (*batch, d_state): of each channel the state with the largest one is searched.
    """
    layer, inputs = lifted(question), question.inputs
    assert inputs is not None
    batch, largest = state.shape[:-1], np.argmax(state, axis=-1)
    count = int(np.prod(batch))
    picked = np.unique(np.linspace(0, count - 1, min(STATES, count)).round().astype(int))
    channels = [(*(int(k) for k in np.unravel_index(i, batch)), int(largest.reshape(-1)[i])) for i in picked]
    seen, best = np.zeros(batch), Example(u=np.zeros((1, len(inputs.weight))), index=channels[0], value=0.0)
    step = max(1, ENTRIES // (int(np.prod(state.shape)) * taps_of(layer)))
    for start in range(0, len(channels), step):
        some = channels[start : start + step]
        for constant in (True, False):
            objective = _log_target if constant else _log_drive
            windows = _ascend(layer, inputs, some, objective, taps_of(layer), seed=question.seed, constant=constant)
            for example in _settled(layer, windows, some) if constant else _pushed(layer, windows, some):
                channel = example.index[:-1]
                seen[channel] = max(seen[channel], example.value)
                best = example if example.value > best.value else best
    return best, seen


def extreme_steps(question: Question, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest step before softplus that were found in each channel of an S6, NaN where none was looked for."""
    layer, inputs = lifted(question), question.inputs
    assert inputs is not None
    layer = replace(layer, assumptions={k: v for k, v in layer.assumptions.items() if k not in ("dt_offset", "delta_scale")})
    rates = np.exp(np.reshape(layer.params["A_log"], (channels, -1))[:, 0])
    picked = np.unique(np.linspace(0, channels - 1, min(STATES, channels)).round().astype(int))
    low, high = np.full(channels, np.nan), np.full(channels, np.nan)
    step = max(1, ENTRIES // (layer.params["A_log"].size * taps_of(layer)))
    for start in range(0, len(picked), step):
        some = [(int(k), 0) for k in picked[start : start + step]]
        for seen, sign in ((low, 1.0), (high, -1.0)):
            windows = _ascend(layer, inputs, some, lambda mu, drive, xp, sign=sign: sign * mu, taps_of(layer), seed=question.seed)
            mu, _ = _fields(layer, np.concatenate([windows[0][:1], *windows]), np)
            for k, (channel, _) in enumerate(some):
                delta = -mu[1 + k * taps_of(layer) + _position(layer), channel, 0] / rates[channel]
                seen[channel] = delta + math.log(-math.expm1(-delta)) if delta > 0 else -math.inf
    return low, high


def _settled(layer: Layer, windows: Sequence[np.ndarray], channels: Sequence[Index]) -> Iterator[Example]:
    """Where constant inputs settle, after as many tokens as are written out."""
    mu, drive = _fields(layer, np.concatenate([windows[0][:1], *windows]), np)
    for k, (index, window) in enumerate(zip(channels, windows, strict=True)):
        t = 1 + k * len(window) + _position(layer)
        rate = -float(mu[(t, *index)])
        if rate > 0:
            length = min(LONGEST, math.ceil(25 / max(rate, 1e-12)) + len(window))
            size = abs(float(drive[(t, *index)])) * math.expm1(-rate * (length - len(window))) / math.expm1(-rate)
            yield Example(u=np.repeat(window[:1], length, axis=0), index=index, value=size * (1 - 2.0**-30))


def _pushed(layer: Layer, windows: Sequence[np.ndarray], channels: Sequence[Index]) -> Iterator[Example]:
    """The largest |h| along all windows one behind the other, channel by channel."""
    u = np.concatenate(windows)
    mu, drive = _fields(layer, u, np)
    columns = tuple(np.array([index[k] for index in channels]) for k in range(len(channels[0])))
    poles, pushes = np.exp(mu[(slice(None), *columns)]), drive[(slice(None), *columns)]
    h, sizes = np.zeros(len(channels)), []
    for pole, push in zip(poles, pushes, strict=True):
        h = pole * h + push
        sizes.append(np.abs(h))
    where = np.argmax(np.stack(sizes), axis=0)
    for k, index in enumerate(channels):
        value = float(sizes[where[k]][k]) * (1 - 2.0**-30)
        ahead = len(windows[0])  # tokens that a centered convolution looks ahead
        yield Example(u=u[: where[k] + 1 + ahead], index=index, value=value)


def lifted(question: Question) -> Layer:
    """The layer with its parameters in numpy, as doubles."""
    assert isinstance(question.subject, Layer)
    return question.subject.map(lambda x: to_numpy(double(x)))


def taps_of(layer: Layer) -> int:
    """Width of the convolution in front of the recurrence."""
    if "conv1d.weight" in layer.params:
        return layer.params["conv1d.weight"].shape[-1]
    return layer.params["conv_1d.w"].shape[0] if "conv_1d.w" in layer.params else 1


def _log_drive(mu: Any, drive: Any, xp: Any) -> Any:
    """log |x|, one push of a state at rest."""
    return xp.log(xp.abs(drive) + 1e-300)


def _log_target(mu: Any, drive: Any, xp: Any) -> Any:
    """log |tau|, tau = x / (1 - lambda): where a constant input settles."""
    return xp.log(xp.abs(drive) + 1e-300) - xp.log(-xp.expm1(mu))


def _fields(layer: Layer, u: Any, xp: Any) -> tuple[Any, Any]:
    """log_poles and B times the core input, both (L, *batch, n)."""
    along = layer.along(u)
    drive = along.B[..., 0] * layer.core_input(u)
    return xp.broadcast_to(along.log_poles, drive.shape), drive


def _position(layer: Layer) -> int:
    """The token of a block of as many tokens as there are taps that sees all of them, and no other."""
    taps = taps_of(layer)
    return (taps - 1) // 2 if layer.options.get("conv_padding") == "same" else taps - 1


def _ascend(
    layer: Layer, inputs: InputSet, channels: Sequence[Index], objective: Objective, taps: int, *, seed: int, constant: bool = False
) -> list[np.ndarray]:
    """For each channel the best window of tokens that was seen, (taps, d_model)."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((len(channels), 1 if constant else taps, len(inputs.weight)))
    best, value = x, np.full(len(channels), -np.inf)
    for moved, now in _rounds(layer, inputs, channels, objective, taps, x):
        better = now > value
        best, value = np.where(better[:, None, None], moved, best), np.where(better, now, value)
    tokens = inputs.token(np.broadcast_to(best, (len(channels), taps, len(inputs.weight))))
    return list(tokens)


def _rounds(
    layer: Layer, inputs: InputSet, channels: Sequence[Index], objective: Objective, taps: int, x: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Points and their values, each from the gradient at the one before."""
    evaluate = _differentiable(layer, inputs, channels, objective, taps)
    for _ in range(ROUNDS):
        values, gradient = evaluate(x)
        yield x, values
        if gradient is None:
            return
        moved = np.linalg.norm(gradient, axis=-1, keepdims=True) > 0
        x = np.where(moved, gradient, x)


def _differentiable(
    layer: Layer, inputs: InputSet, channels: Sequence[Index], objective: Objective, taps: int
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    """x -> the objective of each window and its gradient; None for the gradient where torch is not installed."""
    steps = 1 + taps * np.arange(len(channels)) + _position(layer)
    where = (steps, *(np.array([index[k] for index in channels]) for k in range(len(channels[0]))))
    if importlib.util.find_spec("torch") is None:

        def without(x: np.ndarray) -> tuple[np.ndarray, None]:
            mu, drive = _fields(layer, _document(inputs.token(x), taps, np), np)
            return np.reshape(objective(mu[where], drive[where], np), (len(channels), -1)).max(axis=1), None

        return without
    import torch

    with torch.inference_mode(False):
        in_torch = layer.map(torch.tensor)

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
            leaf = torch.tensor(inputs.token(x), requires_grad=True)
            mu, drive = _fields(in_torch, _document(leaf, taps, torch), torch)
            picked = torch.reshape(objective(mu[where], drive[where], torch), (len(channels), -1)).amax(dim=1)
            (gradient,) = torch.autograd.grad(torch.sum(picked), leaf)
        return picked.detach().numpy(), gradient.numpy() * inputs.weight

    return evaluate


def _document(tokens: Any, taps: int, xp: Any) -> Any:
    """One token, then block behind block; a constant block repeats its token. The first token of RG-LRU is a special case."""
    blocks = xp.broadcast_to(tokens, (tokens.shape[0], taps, tokens.shape[2]))
    flat = xp.reshape(blocks, (-1, tokens.shape[2]))
    return xp.concatenate([flat[:1], flat])
