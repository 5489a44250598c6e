r"""An experiment on eigenvalues near the unit circle, in time-invariant layers and in layers that depend on their input.

The paper finds that time-invariant models need eigenvalues near the circle, and that moving the eigenvalues of time-varying models
closer to it hurts them; why, it leaves open. Each variant here is a fresh layer. All variants read the same inputs, and the experiment
measures for each

    the poles                   time constants -1/log|lambda[k]| of all tokens, channels and states,
    the exponents               mean_k log|lambda[k]| of each state,
    the receptive field         how far back the output at the last token looks,
    the effective state size    how many states carry the past across the middle of the input,
    the selectivity             how much the decay rate of a channel changes from token to token.

A time-invariant layer enters as a time-varying system whose coefficients are constant, through the same functions and the same L tokens.
The feed-through D is set to 0, because what passes it was not remembered.

References
----------
Amo Alonso, Sieber, Zeilinger, arXiv 2403.16899, section 4; its companion code leaves A = -1/2 for S6 as a comment.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from ssm_analysis.analyses.along.exponents import lyapunov_exponents
from ssm_analysis.analyses.along.forgetting import receptive_field
from ssm_analysis.analyses.along.poles import EffectivePoles, effective_poles, joined_channels, quantiles
from ssm_analysis.analyses.along.state_size import effective_state_size
from ssm_analysis.families import FAMILIES
from ssm_analysis.families.base import Layer, SelectiveFamily
from ssm_analysis.families.shared.parameters import check_sizes, generator
from ssm_analysis.systems import DiagonalLTV, DiagonalSSM, RealDiagonalSSM
from ssm_analysis.xp import to_numpy

WINDOW = 32
"""Number of channels analyzed at a time: 32 channels of 64 states along 512 tokens take 8 MiB a field."""
ANY = "any input"
"""Name of the input in the result of a time-invariant layer, which behaves alike on all inputs."""
SLOW = 0.95
"""Correlation of neighboring tokens of the slow input: it moves within 1 / (1 - 0.95) = 20 tokens."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One initialization: a family and the keywords of its ``init`` other than sizes and seed."""

    title: str
    family: str
    options: Mapping[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant(title="S6, A = -(1..N)", family="s6"),
    Variant(title="S6, A = -1/2", family="s6", options={"A_init": "near_unit"}),
    Variant(title="RG-LRU, ring of a", family="rg_lru", options={"ring": "a"}),
    Variant(title="RG-LRU, ring of a⁸", family="rg_lru", options={"ring": "a^8"}),
    Variant(title="S4D-LegS", family="s4d"),
    Variant(title="S5", family="s5"),
    Variant(title="LRU, 0 ≤ r ≤ 1", family="lru"),
    Variant(title="LRU, 0.9 ≤ r ≤ 0.999", family="lru", options={"r_min": 0.9, "r_max": 0.999}),
)
"""The default initialization and, where a family has one, an initialization nearer to the circle."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Behavior:
    """Measurements of one variant along one input.

    Parameters
    ----------
    variant
        Title of the variant.
    input
        Name of the input; "any input" for time-invariant layers.
    states
        Number of states of each system.
    poles
        Histogram of the time constants of all tokens, channels and states.
    exponents
        Mean of log|lambda| over the tokens, for each state of each system, nats per token.
    receptive_field
        Number of tokens before the last one that carry 90 % of the variance of the output for white input, for each system.
    effective_states
        Effective number of states between the first and the second half of the input, for each system: the exponential of the entropy
        of the singular values of the map from the one half to the other.
    """

    variant: str
    input: str
    states: int
    poles: EffectivePoles
    exponents: Float[np.ndarray, "systems n"]
    receptive_field: Float[np.ndarray, " systems"]
    effective_states: Float[np.ndarray, " systems"]

    @property
    def longest(self) -> float:
        """Return the largest time constant at any token, in tokens; infinite where a state does not decay."""
        rate = float(np.min(self.poles.slowest_rate))
        return 1 / rate if rate > 0 else float("inf")

    @property
    def selectivity(self) -> float:
        """Return the standard deviation of log2(decay rate) over the tokens, averaged over the channels: 1 if rates double and halve."""
        return float(np.mean(np.std(np.log2(self.poles.mean_rate), axis=0)))

    def time_constants(self, *shares: float) -> Float[np.ndarray, " shares"]:
        """Return the quantiles of the time constants over all tokens, channels and states, in tokens."""
        return quantiles(self.poles.counts, self.poles.edges, shares)


@dataclass(frozen=True, eq=False, kw_only=True)
class MarginalStability:
    """The result of the experiment: the inputs, and the behavior of every variant along them."""

    d_model: int
    d_state: int
    seed: int
    inputs: Mapping[str, Float[np.ndarray, "l d_model"]]
    behaviors: tuple[Behavior, ...]


def marginal_stability_experiment(
    *,
    d_model: int = 16,
    d_state: int = 64,
    length: int = 512,
    seed: int = 0,
    inputs: Mapping[str, Float[np.ndarray, "l d_model"]] | None = None,
    variants: Sequence[Variant] = VARIANTS,
) -> MarginalStability:
    """Measure fresh layers with poles near the unit circle and away from it along the same inputs.

    Parameters
    ----------
    d_model
        Number of features of each layer.
    d_state
        Number of states of each system; by default 64, as in the companion code of the paper. Families whose ``init`` has no
        ``d_state``, such as RG-LRU, ignore it.
    length
        Number of tokens of the two default inputs.
    seed
        Random seed of the layers; the default inputs use ``seed + 1``.
    inputs
        Inputs by name, each of shape (L, d_model) with the same L >= 4, scaled like the output of a norm layer. By default "white",
        independent N(0, 1), and "slow", where neighboring tokens have the correlation 0.95.
    variants
        The initializations to compare; their families must be diagonal.

    Returns
    -------
    MarginalStability
        One behavior for each selective variant and input, and one for each time-invariant variant.

    Raises
    ------
    ValueError
        If there is no variant or no input, the inputs do not have one shape (L, d_model), or a variant is not diagonal.

    References
    ----------
    Amo Alonso, Sieber, Zeilinger, arXiv 2403.16899, section 4.

    Examples
    --------
    >>> from ssm_analysis.studies.marginal_stability import marginal_stability_experiment
    >>> result = marginal_stability_experiment(d_model=2, d_state=4, length=64)
    >>> usual, near = (b for b in result.behaviors[:4] if b.input == "white")
    >>> near.variant, round(near.longest / usual.longest, 6)
    ('S6, A = -1/2', 2.0)
    """
    check_sizes(d_model=d_model, d_state=d_state, length=length)
    given = sample_inputs(length, d_model, seed + 1) if inputs is None else {name: np.asarray(u, np.float64) for name, u in inputs.items()}
    if not variants or not given:
        raise ValueError(f"there must be at least one variant and one input, got {len(variants)} and {len(given)}")
    shapes = {u.shape for u in given.values()}
    if len(shapes) > 1 or any(len(shape) != 2 or shape[1] != d_model or shape[0] < 4 for shape in shapes):
        raise ValueError(f"inputs must all have one shape (L, {d_model}), L at least 4, got {sorted(shapes)}")
    behaviors = tuple(b for variant in variants for b in _behaviors(variant, given, d_model, d_state, seed))
    return MarginalStability(d_model=d_model, d_state=d_state, seed=seed, inputs=given, behaviors=behaviors)


def sample_inputs(length: int, d_model: int, seed: int) -> dict[str, Float[np.ndarray, "length d_model"]]:
    """Draw "white", independent N(0, 1), and "slow", x[k] = 0.95 x[k-1] + sqrt(1 - 0.95^2) N(0, 1), of the same variance."""
    white, noise = generator(seed).standard_normal((2, length, d_model))
    slow = [noise[0]]
    for x in noise[1:]:
        slow.append(SLOW * slow[-1] + np.sqrt(1 - SLOW**2) * x)
    return {"white": white, "slow": np.stack(slow)}


def _behaviors(variant: Variant, inputs: Mapping[str, np.ndarray], d_model: int, d_state: int, seed: int) -> Iterator[Behavior]:
    """Yield the behavior of a variant along each input; a time-invariant layer behaves alike on all, so it yields one."""
    family = FAMILIES[variant.family]
    sizes = {"d_model": d_model, "seed": seed} | ({"d_state": d_state} if "d_state" in inspect.signature(family.init).parameters else {})
    layer = family.init(**sizes, **variant.options)
    layer = replace(layer, params={name: 0 * x if name == "D" else x for name, x in layer.params.items()})
    if isinstance(family, SelectiveFamily):
        for name, u in inputs.items():
            yield _behavior(variant, name, layer.windows(u, channels=WINDOW))
    else:
        length = len(next(iter(inputs.values())))
        yield _behavior(variant, ANY, _unvarying(layer, length))


def _unvarying(layer: Layer, length: int) -> Iterator[DiagonalLTV]:
    """Yield the systems of a time-invariant layer as time-varying ones with constant coefficients, a window at a time."""
    whole = layer.system()
    if not isinstance(whole, DiagonalSSM | RealDiagonalSSM):
        raise ValueError(f"variants must be of diagonal families, and {layer.family!r} has a dense A; S4D is its diagonal relative")
    whole = whole.expand() if isinstance(whole, RealDiagonalSSM) else whole
    parts = [whole[i : i + WINDOW] for i in range(0, whole.batch_shape[0], WINDOW)] if whole.batch_shape else [whole]
    for sys in parts:
        fields = {name: np.broadcast_to(getattr(sys, name), (length, *getattr(sys, name).shape)) for name in sys.AXES}
        yield DiagonalLTV(**fields, dt=sys.dt)


def _behavior(variant: Variant, which: str, windows: Iterator[DiagonalLTV]) -> Behavior:
    poles, exponents, fields, sizes, states = [], [], [], [], 0
    for sys in windows:
        sys = sys if sys.batch_shape else sys[None]
        states = sys.nstates
        state_size = effective_state_size(sys, at=[sys.length // 2])
        poles.append(effective_poles(sys))
        exponents.append(to_numpy(lyapunov_exponents(sys)).reshape(-1, sys.nstates))
        fields.append(np.ravel(to_numpy(receptive_field(sys, shares=(0.9,)))))
        sizes.append(np.ravel(to_numpy(state_size.entropy_rank)))
    return Behavior(
        variant=variant.title,
        input=which,
        states=states,
        poles=joined_channels(poles),
        exponents=np.concatenate(exponents),
        receptive_field=np.concatenate(fields),
        effective_states=np.concatenate(sizes),
    )
