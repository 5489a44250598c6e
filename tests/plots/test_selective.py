"""Pictures of selective layers, read back from the artists."""

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from ssm_analysis import FAMILIES, DiagonalLTV
from ssm_analysis.analyses.along.attention import hidden_attention
from ssm_analysis.analyses.along.forgetting import retention
from ssm_analysis.analyses.along.growth import state_growth
from ssm_analysis.analyses.along.poles import effective_poles, quantiles
from ssm_analysis.plots.selective import (
    attention_map,
    openness_map,
    poles_along_tokens,
    retention_curves,
    state_norms,
    time_constant_histograms,
)

L = 30
LAYER = FAMILIES["s6"].init(d_model=3, d_state=4, seed=1)
U = np.random.default_rng(2).standard_normal((L, 3))
SYS = LAYER.along(U)
POLES = effective_poles(SYS)
WORDS = [*"some text, and\na second line", "x", "y"][:L]


@pytest.fixture(autouse=True)
def nothing_left():
    """No figure, no setting of matplotlib outlives a test."""
    settings = dict(mpl.rcParams)
    yield
    plt.close("all")
    assert dict(mpl.rcParams) == settings


def own_axes():
    return Figure(figsize=(6, 4), layout="constrained").add_subplot()


def drawn(ax):
    ax.figure.draw_without_rendering()
    return ax


def holding(tau, shape=(L, 2, 3)):
    """A system with this one time constant, infinite allowed."""
    one = np.ones((*shape, 1))
    return DiagonalLTV(log_poles=np.full(shape, -1 / tau), B=one, C=np.ones((*shape[:-1], 1, shape[-1])), D=np.ones((*shape[:-1], 1, 1)))


PICTURES = {
    "histograms": lambda ax: time_constant_histograms({"a": POLES, "b": POLES}, ax=ax),
    "along": lambda ax: poles_along_tokens(POLES, ax=ax),
    "along, words": lambda ax: poles_along_tokens(POLES, tokens=WORDS, ax=ax),
    "openness": lambda ax: openness_map(POLES.openness(), tokens=WORDS, ax=ax),
    "retention": lambda ax: retention_curves(retention(SYS)[0], ax=ax),
    "attention": lambda ax: attention_map(hidden_attention(SYS), tokens=WORDS, ax=ax),
    "norms": lambda ax: state_norms(state_growth(SYS, LAYER.core_input(U)), tokens=WORDS, ax=ax),
}


@pytest.mark.parametrize("name", PICTURES)
def test_axes_of_ones_own_or_one_new_figure(name):
    mine = own_axes()
    assert drawn(PICTURES[name](mine)) is mine
    assert plt.get_fignums() == []
    ax = drawn(PICTURES[name](None))
    assert len(plt.get_fignums()) == 1
    for label in (ax.get_xlabel(), ax.get_ylabel()):
        assert label or name == "histograms"


def test_a_histogram_stands_where_the_time_constant_is():
    ax = drawn(time_constant_histograms({"slow": effective_poles(holding(300.0)), "fast": effective_poles(holding(2.0))}, ax=own_axes()))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fast", "slow"], "from below"
    for base, tau in ((1, 300.0), (0, 2.0)):
        (patch, *_) = [p for p in ax.patches if p.get_data().baseline == base]
        data = patch.get_data()
        (bin_,) = np.flatnonzero(data.values > base)
        assert data.edges[bin_] <= tau < data.edges[bin_ + 1]
        (line,) = [line for line in ax.lines if line.get_ydata()[0] == base]
        np.testing.assert_allclose(line.get_xdata(), tau, rtol=0.13)
    assert ax.get_xlim() == (1.0, 1000.0)
    assert ax.get_xlabel().startswith("time constant, tokens")


def test_ridges_are_shares_of_their_own_layer():
    ax = time_constant_histograms({"a": POLES}, ax=own_axes())
    data = ax.patches[0].get_data()
    counts = POLES.counts[1:-1]
    np.testing.assert_allclose(data.values / np.max(data.values), counts / np.max(counts), rtol=1e-12)


def test_what_lies_outside_the_histogram_is_said():
    half = effective_poles(DiagonalLTV(
        log_poles=np.where(np.arange(4) < 2, -1e-12, -1.0) * np.ones((L, 1, 4)),
        B=np.ones((L, 1, 4, 1)), C=np.ones((L, 1, 1, 4)), D=np.ones((L, 1, 1, 1)),
    ))  # fmt: skip
    ax = drawn(time_constant_histograms({"a": half}, ax=own_axes()))
    assert [text.get_text() for text in ax.texts] == ["50.0% longer"]


def test_the_upper_axis_is_the_modulus():
    ax = drawn(time_constant_histograms({"a": effective_poles(holding(30.0)), "b": effective_poles(holding(0.3))}, ax=own_axes()))
    (upper,) = ax.child_axes
    assert upper.get_xlabel() == "|λ|"
    shown = [float(label.get_text()) for label in upper.get_xticklabels()]
    assert 0.9 in shown
    at = ax.transData.inverted().transform(upper.transData.transform((0.9, 0.5)))[0]
    np.testing.assert_allclose(at, -1 / np.log(0.9), rtol=1e-6)


def test_bands_over_positions_are_quantiles():
    ax = drawn(poles_along_tokens(POLES, ax=own_axes()))
    want = quantiles(POLES.by_token, POLES.edges, (0.5,))[:, 0]
    median, slowest = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(median, want, rtol=1e-12)
    np.testing.assert_allclose(slowest, 1 / np.min(-SYS.log_poles, axis=(1, 2)), rtol=1e-12)
    assert ax.get_xlabel() == "position, tokens"
    assert ax.get_ylabel() == "time constant at the token, tokens"


def test_states_that_never_decay_leave_a_gap():
    ax = drawn(poles_along_tokens(effective_poles(holding(np.inf)), ax=own_axes()))
    assert np.all(np.isnan(ax.lines[1].get_ydata()))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 1e9)


def test_tokens_stand_below_the_axis():
    ax = drawn(poles_along_tokens(POLES, tokens=WORDS, ax=own_axes()))
    shown = [label.get_text() for label in ax.get_xticklabels()]
    assert shown == [{" ": "·", "\n": "⏎"}.get(word, word) for word in WORDS]
    assert ax.get_xlabel() == "token"


def test_many_tokens_are_numbered():
    many = effective_poles(holding(3.0, (200, 1, 1)))
    ax = drawn(poles_along_tokens(many, tokens=["a"] * 200, ax=own_axes()))
    assert ax.get_xlabel() == "position, tokens"
    assert "a" not in {label.get_text() for label in ax.get_xticklabels()}


def test_the_map_shows_the_channels_that_move_most():
    openness = np.random.default_rng(0).standard_normal((L, 40)) * np.arange(40)
    openness[3, 2], openness[4, 3] = np.inf, np.nan
    ax = drawn(openness_map(openness, ax=own_axes()))
    rows = [int(label.get_text()) for label in ax.get_yticklabels()]
    assert len(rows) == 32
    assert {2, 3} <= set(rows)
    image = ax.images[0].get_array()
    i = rows.index(39)
    np.testing.assert_array_equal(image[i], openness[:, 39])
    low, high = ax.images[0].get_clim()
    assert low == -high == -8
    (bar,) = (a for a in ax.figure.axes if a is not ax)
    texts = [t.get_text() for t in bar.get_yticklabels()]
    assert (texts[0], texts[-1], texts[4]) == ("256", "1/256", "1")


def test_chosen_channels_in_their_order():
    openness = np.arange(12.0).reshape(3, 4) / 12
    ax = drawn(openness_map(openness, channels=[2, 0], tokens=["a", "b", "c"], ax=own_axes()))
    np.testing.assert_array_equal(ax.images[0].get_array(), openness[:, [2, 0]].T)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2", "0"]
    assert ax.images[0].get_clim() == (-1, 1)


def test_a_curve_of_retention_is_the_median_over_the_states():
    kept = retention(SYS, at=[20])[0]
    ax = drawn(retention_curves(kept, at=20, label="token 20", ax=own_axes()))
    line = ax.lines[0]
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 22))
    np.testing.assert_allclose(line.get_ydata(), np.median(kept[:21].reshape(21, -1), axis=1)[::-1], rtol=1e-12)
    assert ax.get_legend().get_texts()[0].get_text() == "token 20: median of 24 states"
    again = retention_curves(torch.tensor(kept), at=-10, ax=own_axes())
    np.testing.assert_array_equal(again.lines[0].get_ydata(), line.get_ydata())


def test_the_attention_map_is_logarithmic_and_causal():
    alpha = hidden_attention(SYS)
    ax = drawn(attention_map(alpha, ax=own_axes()))
    image = np.asarray(ax.images[0].get_array().filled(np.nan))
    size = np.sqrt(np.sum(alpha[..., 0, 0] ** 2, axis=-1))
    t, s = np.tril_indices(L)
    np.testing.assert_allclose(image[t, s], np.maximum(np.log10(size[t, s] / np.max(size)), -4), rtol=1e-12)
    assert np.all(np.isnan(image[np.triu_indices(L, 1)]))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("position of token s that is read", "position of token t that reads")


def test_overflow_is_drawn_where_it_is_near():
    grown = state_growth(SYS, LAYER.core_input(U))
    ax = drawn(state_norms(grown, ax=own_axes()))
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.median(grown.largest, axis=1), rtol=1e-12)
    assert not ax.texts
    near = state_growth(SYS, LAYER.core_input(U) * 1e5)
    ax = drawn(state_norms(near, ax=own_axes()))
    assert [text.get_text() for text in ax.texts] == ["float16 overflows"]
    assert ax.get_ylim()[1] > 65504
    silent = state_growth(SYS, 0 * LAYER.core_input(U))
    drawn(state_norms(silent, ax=own_axes()))


# what is refused


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: time_constant_histograms({}), ValueError, "found must hold the effective poles of at least one layer, got none"),
        (lambda: poles_along_tokens(POLES, tokens=["a"]), ValueError, "tokens must hold one for each of the 30 positions, got 1"),
        (lambda: openness_map(np.ones(3)), ValueError, r"openness must have shape \(L, channels\), got \(3,\)"),
        (lambda: openness_map(np.ones((3, 0))), ValueError, r"openness must have shape \(L, channels\), got \(3, 0\)"),
        (lambda: openness_map(np.ones((3, 2)), channels=[2]), ValueError, r"channels must lie between 0 and 1, got \[2\]"),
        (lambda: openness_map([[1.0]]), TypeError, "openness must be an array, got list"),
        (lambda: retention_curves(np.ones((3, 2)), at=3), ValueError, "at must be one of the 3 tokens, got 3"),
        (lambda: attention_map(np.ones((3, 2))), ValueError, r"alpha must have a row for each column, \(l, l, ...\), got \(3, 2\)"),
        (lambda: attention_map(np.zeros((3, 3))), ValueError, "alpha must not be zero everywhere"),
    ],
)
def test_what_cannot_be_drawn(draw, error, message):
    with pytest.raises(error, match=message):
        draw()
    assert plt.get_fignums() == [] or message.startswith("tokens")
