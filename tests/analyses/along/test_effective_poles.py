"""Poles along an input: the counts are those of numpy's histogram, and windows add up to the whole."""

import numpy as np
import pytest
import torch

from ssm_analysis import DiagonalLTV, Layer, time_constants
from ssm_analysis.analyses.along.poles import EffectivePoles, effective_poles, joined_channels, joined_tokens, quantiles
from tests.support.families_table import LAYERS, SELECTIVE, an_input, fresh
from tests.support.ltv_table import LTV, rescaled
from tests.support.systems_table import TIME_VARYING, in_torch

FIELDS = ("edges", "by_token", "by_channel", "by_state", "mean_rate", "slowest_rate")
SYSTEMS = LTV | {name: sys for name, sys in TIME_VARYING.items() if name.startswith("recurrence")}


def assert_same(found: EffectivePoles, want: EffectivePoles):
    for field in FIELDS:
        np.testing.assert_array_equal(np.asarray(getattr(found, field)), getattr(want, field))


def histogram(times, edges):
    """Under the first edge, between, from the last on."""
    return np.histogram(times, np.concatenate([[0], edges, [np.inf]]))[0]


@pytest.mark.parametrize("name", SYSTEMS)
def test_counts_are_histograms(name):
    sys = SYSTEMS[name]
    found, times = effective_poles(sys), time_constants(sys)
    assert found.by_token.shape == (times.shape[0], len(found.edges) + 1)
    assert found.by_channel.shape == (*sys.batch_shape, len(found.edges) + 1)
    np.testing.assert_array_equal(found.counts, histogram(times, found.edges))
    for t in range(times.shape[0]):
        np.testing.assert_array_equal(found.by_token[t], histogram(times[t], found.edges))
    for index in np.ndindex(sys.batch_shape):
        np.testing.assert_array_equal(found.by_channel[index], histogram(times[(slice(None), *index)], found.edges))
    for i in range(sys.nstates):
        np.testing.assert_array_equal(found.by_state[i], histogram(times[..., i], found.edges))
    rate = -sys.log_poles.real
    np.testing.assert_allclose(found.mean_rate, np.mean(rate, axis=-1), rtol=1e-14)
    np.testing.assert_array_equal(found.slowest_rate, np.min(rate, axis=-1))


def test_edges_are_decades_and_margins_theirs():
    found = effective_poles(LTV["ltv_real"])
    np.testing.assert_allclose(found.edges[::20], 10.0 ** np.arange(-1, 10), rtol=1e-14)
    np.testing.assert_allclose(found.margin_edges[-1], 1e-9, rtol=1e-8)
    np.testing.assert_allclose(found.margin_edges[:60], 1 - np.exp(-1 / found.edges[:60]), rtol=1e-10)


def test_extremes_are_counted_at_the_ends():
    one = np.ones((5, 1, 1))
    sys = DiagonalLTV(log_poles=np.array([[-1e3], [-1e-12], [0.0], [0.5], [-1.0]]), B=one, C=one, D=one)
    counts = effective_poles(sys).counts
    assert (counts[0], counts[-1], counts.sum()) == (1, 3, 5)


@pytest.mark.parametrize("name", SELECTIVE)
def test_windows_of_channels_add_up(name):
    layer = LAYERS[name]()
    u = an_input(layer, 9)
    want = effective_poles(layer.along(u))
    for size in (1, 3):
        assert_same(joined_channels(effective_poles(sys) for sys in layer.windows(u, channels=size)), want)


@pytest.mark.parametrize("name", SYSTEMS)
def test_stretches_of_tokens_add_up(name):
    sys = SYSTEMS[name]
    length = sys.log_poles.shape[0]
    parts = [effective_poles(sys.map(lambda x, i=i: x[i : i + 4])) for i in range(0, length, 4)]
    assert_same(joined_tokens(parts), effective_poles(sys))


def test_permuting_channels_permutes_and_coordinates_do_not_matter():
    sys = LTV["ltv_batch"]
    found, turned = effective_poles(sys), effective_poles(sys[::-1])
    np.testing.assert_array_equal(turned.by_channel, found.by_channel[::-1])
    np.testing.assert_array_equal(turned.by_token, found.by_token)
    np.testing.assert_array_equal(turned.mean_rate, found.mean_rate[:, ::-1])
    assert_same(effective_poles(rescaled(sys)), found)


@pytest.mark.parametrize("name", ["ltv_batch", "recurrence_real"])
def test_torch_gives_the_same_and_gradients_of_the_maps(name):
    sys = SYSTEMS[name]
    found = effective_poles(in_torch(sys))
    assert all(isinstance(getattr(found, field), torch.Tensor) for field in FIELDS)
    for field in FIELDS:
        np.testing.assert_allclose(getattr(found, field).numpy(), getattr(effective_poles(sys), field), rtol=1e-13)
    mu = torch.tensor(np.array(sys.log_poles.real), requires_grad=True)
    rest = {name: torch.tensor(np.array(getattr(sys, name).real)) for name in "BCD"}

    def maps(mu):
        found = effective_poles(type(sys)(log_poles=mu, **rest))
        return found.mean_rate, found.slowest_rate, found.openness()

    assert torch.autograd.gradcheck(maps, (mu,))


def test_single_precision_is_lifted():
    sys = LTV["ltv_real"].map(lambda x: x.astype(np.float32))
    assert_same(effective_poles(sys), effective_poles(sys.map(lambda x: x.astype(np.float64))))


# what opens and closes memory


def test_openness_is_that_of_the_step():
    """All states of a channel of S6 share delta: the map is log2 of its mean over itself, whatever A is."""
    layer = LAYERS["s6"]()
    u = an_input(layer, 30)
    sys = layer.along(u)
    delta = sys.log_poles[..., 0] / -np.exp(layer.params["A_log"])[:, 0]
    np.testing.assert_allclose(effective_poles(sys).openness(), np.log2(np.mean(delta, axis=0) / delta), rtol=1e-9, atol=1e-12)


def test_openness_where_nothing_decays_or_something_grows():
    one = np.ones((3, 1, 1))
    sys = DiagonalLTV(log_poles=np.array([[0.0], [-2.0], [-1.0]]), B=one, C=one, D=one)
    np.testing.assert_allclose(effective_poles(sys).openness(), [np.inf, -1, 0], atol=1e-15)
    grows = DiagonalLTV(log_poles=np.array([[0.5], [-2.0], [-1.5]]), B=one, C=one, D=one)
    np.testing.assert_array_equal(np.isnan(effective_poles(grows).openness()), [True, False, False])


# quantiles


def test_quantiles_are_within_a_bin_of_those_of_the_poles():
    layer = fresh("s6", d_model=16)
    sys = layer.along(an_input(layer, 200))
    found, times, shares = effective_poles(sys), time_constants(sys), (0.01, 0.1, 0.5, 0.9, 0.99)
    np.testing.assert_allclose(quantiles(found.counts, found.edges, shares), np.quantile(times, shares), rtol=0.123)
    by_token = quantiles(found.by_token, found.edges, shares)
    np.testing.assert_allclose(by_token, np.quantile(times, shares, axis=(1, 2)).T, rtol=0.123)
    assert np.all(np.diff(by_token, axis=-1) >= 0)


def test_quantiles_at_the_ends():
    edges = effective_poles(LTV["ltv_real"]).edges
    counts = np.zeros((3, len(edges) + 1), dtype=int)
    counts[0, 0] = counts[1, -1] = 5
    np.testing.assert_array_equal(quantiles(counts, edges, (0.5,)), [[0.0], [np.inf], [np.nan]])


def test_quantiles_interpolate_geometrically():
    edges = effective_poles(LTV["ltv_real"]).edges
    counts = np.zeros(len(edges) + 1, dtype=int)
    counts[21] = 4  # between 1 and 10^(1/20) tokens
    np.testing.assert_allclose(quantiles(counts, edges, (0.25, 0.5)), 10 ** np.array([1 / 80, 1 / 40]), rtol=1e-12)


@pytest.mark.usefixtures("unchecked_annotations")
def test_errors():
    found = effective_poles(LTV["ltv_batch"])
    for shares in ((), (0.0,), (1.0,)):
        with pytest.raises(ValueError, match="shares must lie between 0 and 1, both excluded, got"):
            quantiles(found.counts, found.edges, shares)
    with pytest.raises(ValueError, match="counts must have one bin more than there are edges, 202, got 201"):
        quantiles(found.counts[1:], found.edges, (0.5,))
    other = effective_poles(LTV["ltv_real"])
    for f in (joined_channels, joined_tokens):
        with pytest.raises(ValueError, match=f"{f.__name__} needs at least one part, got none"):
            f([])
        with pytest.raises(ValueError, match=f"{f.__name__} needs parts of one layer that fit each other, got the shapes"):
            f([found, other])
    with pytest.raises(TypeError, match=r"effective_poles takes one of DiagonalLTV, DiagonalRecurrence, got Layer; pass layer\.along"):
        effective_poles(Layer(family="s6", params=fresh("s6").params))
