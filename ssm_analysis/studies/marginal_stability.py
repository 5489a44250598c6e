r"""Does memory near the circle mean the same for layers that depend on their input? The open question of arXiv 2403.16899, set up to run.

The paper finds that eigenvalues near the circle matter for time-invariant models, and that moving those of time-varying models closer to
it hurts. Each variant here is a fresh layer; all read the same inputs, and of each are measured

    where its poles are        time constants -1/log|lambda[k]| of all tokens, channels and states,
    what they multiply to      the exponents mean_k log|lambda[k]| of each state,
    how far back y looks       the receptive field at the last token,
    how many states it uses    the effective state-size in the middle,
    how much it selects        how the decay of a channel moves from token to token.

Time-invariant layers take part as time-varying ones that do not vary, through the same functions and the same window of L tokens.
The feed-through D is left out: what passes it was not remembered.

References
----------
Amo Alonso, Sieber, Zeilinger, arXiv 2403.16899, section 4; its companion code leaves A = -1/2 for S6 as a comment.
"""

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
"""Channels of a layer that are looked at together: 32 of 64 states along 512 tokens take 8 MiB a field."""
ANY = "any input"
SLOW = 0.95
"""Correlation of neighboring tokens of the slow input: it moves within 1 / (1 - 0.95) = 20 tokens."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One initialization: a family and the keywords of its ``init``, beside sizes and seed."""

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
"""The default and the one nearer to the circle, of each family that has both; S4D and S5 have long memory by default."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Behavior:
    """What one variant does along one input.

    Parameters
    ----------
    variant, input
        Whose; of time-invariant layers ``input`` is "any input".
    states
        Of each of its systems.
    poles
        Time constants of all tokens, channels and states, counted.
    exponents
        Mean of log|lambda| over the tokens, nats per token.
    receptive_field
        Tokens back from the last one that carry 90 % of the variance of the output for white input, of each system.
    effective_states
        The effective number of states between the first and the second half of the input, of each system: exp of the entropy of the
        singular values of the map between them.
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
        """Largest time constant of one token, tokens; infinite where a state does not decay."""
        rate = float(np.min(self.poles.slowest_rate))
        return 1 / rate if rate > 0 else float("inf")

    @property
    def selectivity(self) -> float:
        """Standard deviation over the tokens of log2 of a channel's decay rate, in the mean of all channels: 1 if it doubles and halves."""
        return float(np.mean(np.std(np.log2(self.poles.mean_rate), axis=0)))

    def time_constants(self, *shares: float) -> Float[np.ndarray, " shares"]:
        """Time constants that these shares of all (token, channel, state) do not exceed, tokens."""
        return quantiles(self.poles.counts, self.poles.edges, shares)


@dataclass(frozen=True, eq=False, kw_only=True)
class MarginalStability:
    """Behaviors of all variants along the same inputs, and the inputs."""

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
    """Fresh layers near the circle and away from it, along the same inputs.

    Parameters
    ----------
    d_model, d_state
        Features, and states of each system; an RG-LRU has one whatever this says. 64 states as the companion code of the paper.
    length
        Tokens of the inputs that are made here: "white", independent N(0, 1), and "slow", where neighbors have the correlation 0.95.
    seed
        Of the layers; that of the inputs is the next.
    inputs
        In the place of those two: what would enter the layers, as behind a norm; all of one length.
    variants
        The initializations; diagonal families.

    Raises
    ------
    ValueError
        If there is nothing to compare, or an input does not fit.

    Examples
    --------
    >>> from ssm_analysis.studies.marginal_stability import marginal_stability_experiment
    >>> found = marginal_stability_experiment(d_model=2, d_state=4, length=64)
    >>> usual, near = (b for b in found.behaviors[:4] if b.input == "white")
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
    """White: independent N(0, 1). Slow: x[k] = 0.95 x[k-1] + sqrt(1 - 0.95^2) N(0, 1), as large as the other."""
    white, noise = generator(seed).standard_normal((2, length, d_model))
    slow = [noise[0]]
    for x in noise[1:]:
        slow.append(SLOW * slow[-1] + np.sqrt(1 - SLOW**2) * x)
    return {"white": white, "slow": np.stack(slow)}


def _behaviors(variant: Variant, inputs: Mapping[str, np.ndarray], d_model: int, d_state: int, seed: int) -> Iterator[Behavior]:
    """One for each input, of a time-invariant layer one for all."""
    family = FAMILIES[variant.family]
    sizes = {"d_model": d_model, "seed": seed} | ({} if variant.family == "rg_lru" else {"d_state": d_state})
    layer = family.init(**sizes, **variant.options)
    layer = replace(layer, params={name: 0 * x if name == "D" else x for name, x in layer.params.items()})
    if isinstance(family, SelectiveFamily):
        for name, u in inputs.items():
            yield _behavior(variant, name, layer.windows(u, channels=WINDOW))
    else:
        length = len(next(iter(inputs.values())))
        yield _behavior(variant, ANY, _unvarying(layer, length))


def _unvarying(layer: Layer, length: int) -> Iterator[DiagonalLTV]:
    """The time-invariant systems of a layer as time-varying ones, a few at a time."""
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
        found = effective_state_size(sys, at=[sys.length // 2])
        poles.append(effective_poles(sys))
        exponents.append(to_numpy(lyapunov_exponents(sys)).reshape(-1, sys.nstates))
        fields.append(np.ravel(to_numpy(receptive_field(sys, shares=(0.9,)))))
        sizes.append(np.ravel(to_numpy(found.entropy_rank)))
    return Behavior(
        variant=variant.title,
        input=which,
        states=states,
        poles=joined_channels(poles),
        exponents=np.concatenate(exponents),
        receptive_field=np.concatenate(fields),
        effective_states=np.concatenate(sizes),
    )
