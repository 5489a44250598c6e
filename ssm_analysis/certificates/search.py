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
from dataclasses import dataclass
from typing import Any

import numpy as np

from ssm_analysis.certificates.input_set import InputSet
from ssm_analysis.certificates.question import Inquiry
from ssm_analysis.certificates.selective import Example
from ssm_analysis.certificates.subject import RecurrentLayer

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


@dataclass(frozen=True, eq=False, kw_only=True)
class Search:
    """Where examples are looked for.

    Parameters
    ----------
    layer
        The layer, its parameters in numpy as doubles.
    inputs
        What can enter it.
    taps
        Tokens that one step of the recurrence reads: the width of the convolution in front, or 1.
    ahead
        How many of them come after the token that is updated.
    seed
        Random seed of the starting points.
    """

    layer: RecurrentLayer
    inputs: InputSet
    taps: int
    ahead: int
    seed: int

    @property
    def position(self) -> int:
        """The token of a block of ``taps`` tokens that reads all of them and no other."""
        return self.taps - 1 - self.ahead


def search_of(inquiry: Inquiry, *, taps: int, ahead: int = 0) -> Search:
    """Return the search that a question about a layer with bounded input allows."""
    assert inquiry.inputs is not None
    return Search(layer=inquiry.lifted_layer(), inputs=inquiry.inputs, taps=taps, ahead=ahead, seed=inquiry.question.seed)


def slow_inputs(search: Search, rate: np.ndarray) -> Example:
    """Return the slowest decay that was found, and its input: one window of tokens."""
    flat = np.argsort(np.reshape(rate, -1), kind="stable")[:STARTS]
    channels = [tuple(int(k) for k in np.unravel_index(i, rate.shape)) for i in flat]
    windows = ascend(search, channels, lambda mu, drive, xp: mu)
    found = [attained_rate(search.layer, u) for u in windows]
    return min(found, key=lambda example: example.value)


def attained_rate(layer: RecurrentLayer, u: np.ndarray) -> Example:
    """Return the smallest -log(lambda) along u."""
    along = layer.along(u)
    rates = -np.broadcast_to(along.log_poles, along.B.shape[:-1])
    where = np.unravel_index(np.argmin(rates), rates.shape)
    return Example(u=u, index=tuple(int(i) for i in where[1:]), value=float(rates[where]))


def large_states(search: Search, state: np.ndarray) -> tuple[Example, np.ndarray]:
    """Return the largest states that were found, by channel, and the input of the largest of all.

    Constant inputs, which settle at tau, and windows with the largest single push. ``state`` holds the certified bounds,
    (*batch, d_state): of each channel the state with the largest one is searched.
    """
    batch, largest = state.shape[:-1], np.argmax(state, axis=-1)
    count = int(np.prod(batch))
    picked = np.unique(np.linspace(0, count - 1, min(STATES, count)).round().astype(int))
    channels = [(*(int(k) for k in np.unravel_index(i, batch)), int(largest.reshape(-1)[i])) for i in picked]
    seen, best = np.zeros(batch), Example(u=np.zeros((1, len(search.inputs.weight))), index=channels[0], value=0.0)
    step = max(1, ENTRIES // (int(np.prod(state.shape)) * search.taps))
    for start in range(0, len(channels), step):
        some = channels[start : start + step]
        for constant in (True, False):
            objective = _log_target if constant else _log_drive
            windows = ascend(search, some, objective, constant=constant)
            for example in _settled(search, windows, some) if constant else _pushed(search, windows, some):
                channel = example.index[:-1]
                seen[channel] = max(seen[channel], example.value)
                best = example if example.value > best.value else best
    return best, seen


def _settled(search: Search, windows: Sequence[np.ndarray], channels: Sequence[Index]) -> Iterator[Example]:
    """Yield where constant inputs settle, after as many tokens as are written out."""
    mu, drive = fields_along(search.layer, np.concatenate([windows[0][:1], *windows]), np)
    for k, (index, window) in enumerate(zip(channels, windows, strict=True)):
        t = 1 + k * len(window) + search.position
        rate = -float(mu[(t, *index)])
        if rate > 0:
            length = min(LONGEST, math.ceil(25 / max(rate, 1e-12)) + len(window))
            size = abs(float(drive[(t, *index)])) * math.expm1(-rate * (length - len(window))) / math.expm1(-rate)
            yield Example(u=np.repeat(window[:1], length, axis=0), index=index, value=size * (1 - 2.0**-30))


def _pushed(search: Search, windows: Sequence[np.ndarray], channels: Sequence[Index]) -> Iterator[Example]:
    """Yield the largest |h| along all windows one behind the other, channel by channel."""
    u = np.concatenate(windows)
    mu, drive = fields_along(search.layer, u, np)
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


def _log_drive(mu: Any, drive: Any, xp: Any) -> Any:
    """log |x|, one push of a state at rest."""
    return xp.log(xp.abs(drive) + 1e-300)


def _log_target(mu: Any, drive: Any, xp: Any) -> Any:
    """log |tau|, tau = x / (1 - lambda): where a constant input settles."""
    return xp.log(xp.abs(drive) + 1e-300) - xp.log(-xp.expm1(mu))


def fields_along(layer: RecurrentLayer, u: Any, xp: Any) -> tuple[Any, Any]:
    """Return log_poles and B times the core input along ``u``, both (L, *batch, n), in the library ``xp``."""
    along = layer.along(u)
    drive = along.B[..., 0] * layer.core_input(u)
    return xp.broadcast_to(along.log_poles, drive.shape), drive


def ascend(search: Search, channels: Sequence[Index], objective: Objective, *, constant: bool = False) -> list[np.ndarray]:
    """Return for each channel the best window of tokens that gradient ascent saw, (taps, d_model).

    With ``constant`` all tokens of a window are the same.
    """
    rng, width = np.random.default_rng(search.seed), len(search.inputs.weight)
    x = rng.standard_normal((len(channels), 1 if constant else search.taps, width))
    best, value = x, np.full(len(channels), -np.inf)
    for moved, reached in _rounds(search, channels, objective, x):
        better = reached > value
        best, value = np.where(better[:, None, None], moved, best), np.where(better, reached, value)
    return list(search.inputs.token(np.broadcast_to(best, (len(channels), search.taps, width))))


def _rounds(search: Search, channels: Sequence[Index], objective: Objective, x: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield points and their values, each point from the gradient at the one before."""
    evaluate = _differentiable(search, channels, objective)
    for _ in range(ROUNDS):
        values, gradient = evaluate(x)
        yield x, values
        if gradient is None:
            return
        moved = np.linalg.norm(gradient, axis=-1, keepdims=True) > 0
        x = np.where(moved, gradient, x)


def _differentiable(
    search: Search, channels: Sequence[Index], objective: Objective
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    """Return the function from points to the objective of each window and its gradient, which is None where torch is not installed."""
    inputs, taps = search.inputs, search.taps
    steps = 1 + taps * np.arange(len(channels)) + search.position
    where = (steps, *(np.array([index[k] for index in channels]) for k in range(len(channels[0]))))
    if importlib.util.find_spec("torch") is None:

        def without(x: np.ndarray) -> tuple[np.ndarray, None]:
            mu, drive = fields_along(search.layer, _document(inputs.token(x), taps, np), np)
            return np.reshape(objective(mu[where], drive[where], np), (len(channels), -1)).max(axis=1), None

        return without
    import torch

    with torch.inference_mode(False):
        in_torch = search.layer.map(torch.tensor)

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with torch.inference_mode(False), torch.enable_grad():  # whatever the caller has switched off
            leaf = torch.tensor(inputs.token(x), requires_grad=True)
            mu, drive = fields_along(in_torch, _document(leaf, taps, torch), torch)
            picked = torch.reshape(objective(mu[where], drive[where], torch), (len(channels), -1)).amax(dim=1)
            (gradient,) = torch.autograd.grad(torch.sum(picked), leaf)
        return picked.detach().numpy(), gradient.numpy() * inputs.weight

    return evaluate


def _document(tokens: Any, taps: int, xp: Any) -> Any:
    """Return one token, then block behind block; a constant block repeats its token. The first token of RG-LRU is a special case."""
    blocks = xp.broadcast_to(tokens, (tokens.shape[0], taps, tokens.shape[2]))
    flat = xp.reshape(blocks, (-1, tokens.shape[2]))
    return xp.concatenate([flat[:1], flat])
