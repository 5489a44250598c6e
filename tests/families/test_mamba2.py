"""Mamba-2: what it starts from, its dual form as attention, and the laws of its heads, groups and options.

The modules of transformers are the oracles of `test_mamba_relatives`.
"""

import inspect
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.stats

from ssm_analysis import FAMILIES, simulate
from ssm_analysis.families.mamba2 import model as mamba2
from ssm_analysis.families.mamba2.options import Options
from tests.support.families_table import an_input, fresh, output, trained, with_options, with_params

L, D_MODEL = 45, 12


def trained_mamba2(**options):
    """6 heads of 4 channels in 2 groups, 5 states."""
    return with_options(trained(fresh("mamba2", d_model=D_MODEL, d_state=5, headdim=4, n_groups=2)), **options)


# initialization


def test_mamba2_starts_where_that_of_transformers_starts():
    """Same rates and feed-through; steps on the same range, which transformers does not draw with numpy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from transformers.models.mamba2.modeling_mamba2 import Mamba2Config, Mamba2Mixer

    config = Mamba2Config(hidden_size=64, num_heads=64, head_dim=2, state_size=16, n_groups=4, num_hidden_layers=1)
    theirs = {name: x.detach().numpy() for name, x in Mamba2Mixer(config, layer_idx=0).named_parameters()}
    del theirs["norm.weight"], theirs["out_proj.weight"]
    ours = FAMILIES["mamba2"].init(d_model=64, headdim=2, d_state=16, n_groups=4, A_init="arange").params
    assert {name: x.shape for name, x in ours.items()} == {name: x.shape for name, x in theirs.items()}
    for name in ("A_log", "D"):
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-6)
    for params in (ours, theirs):
        step = np.logaddexp(0, params["dt_bias"].astype(float))
        assert 1e-3 * (1 - 1e-4) <= np.min(step) < 3e-3
        assert 3e-2 < np.max(step) <= 1e-1 * (1 + 1e-4)


def test_the_official_initialization_is_uniform():
    params = fresh("mamba2", d_model=800, d_state=1, headdim=1, dt_min=1e-4, dt_max=1e-2).params
    for x, low, high in ((np.exp(params["A_log"]), 1, 16), (np.log(np.logaddexp(0, params["dt_bias"])), np.log(1e-4), np.log(1e-2))):
        assert np.min(x) >= low - 1e-9
        assert scipy.stats.kstest(x, "uniform", args=(low, high - low)).pvalue > 1e-3


def test_defaults_are_those_of_the_official_implementation():
    defaults = {name: p.default for name, p in inspect.signature(mamba2.init).parameters.items()}
    assert {k: defaults[k] for k in ("d_state", "expand", "n_groups", "d_conv", "A_init", "dt_min", "dt_max")} == {
        "d_state": 128, "expand": 2, "n_groups": 1, "d_conv": 4, "A_init": "uniform", "dt_min": 1e-3, "dt_max": 1e-1
    }  # fmt: skip
    assert fresh("mamba2", d_model=96).along(np.ones((2, 96))).batch_shape == (3, 64)
    assert fresh("mamba2", d_model=4).along(np.ones((2, 4))).batch_shape == (1, 8)  # fewer channels than one head has


# the dual form, and laws


def as_attention(p, u, *, d_ssm, heads, groups, N):
    """Y = (L o C B^T) X, the dual form of arXiv 2405.21060, section 5: no state and no scan. An MLP is whatever stands in front."""
    rows = u @ p["in_proj.weight"].T
    mixed, r = rows[:, -(d_ssm + 2 * groups * N + heads) : -heads], rows[:, -heads:]
    taps = p["conv1d.weight"][:, 0, ::-1]
    mixed = np.stack([np.convolve(x, w)[: len(u)] for x, w in zip(mixed.T, taps, strict=True)], axis=1) + p["conv1d.bias"]
    x, B, C = np.split(mixed / (1 + np.exp(-mixed)), [d_ssm, d_ssm + groups * N], axis=1)
    y = []
    for j in range(heads):
        g = j * groups // heads
        states, channels = slice(g * N, (g + 1) * N), slice(j * d_ssm // heads, (j + 1) * d_ssm // heads)
        delta = np.log1p(np.exp(r[:, j] + p["dt_bias"][j]))
        decay = np.cumsum(-delta * np.exp(p["A_log"][j]))
        mask = np.tril(np.exp(np.minimum(decay[:, None] - decay[None, :], 0)))
        y.append((mask * (C[:, states] @ B[:, states].T) * delta) @ x[:, channels] + np.split(p["D"], heads)[j] * x[:, channels])
    return np.stack(y, axis=1)


def relative(y, want):
    assert y.shape == want.shape
    return np.max(np.abs(y - want)) / np.max(np.abs(want))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("d_mlp", [0, 7])
def test_mamba2_as_attention(d_mlp, per_channel):
    """Also what the official implementation alone has: D for each channel, and a gated MLP in the first rows of in_proj."""
    layer, rng = trained_mamba2(), np.random.default_rng(4)
    W = layer.params["in_proj.weight"]
    layer = with_params(layer, in_proj__weight=np.concatenate([rng.standard_normal((2 * d_mlp, D_MODEL)), W]))
    if d_mlp:
        layer = with_options(layer, d_ssm=24)
    if per_channel:
        layer = with_options(with_params(layer, D=rng.standard_normal(24)), D_has_hdim=True)
    u = an_input(layer, L)
    want = as_attention(layer.params, u, d_ssm=24, heads=6, groups=2, N=5)
    assert relative(output(layer, u)[..., 0], want) < 1e-12
    assert relative(layer.reference(u)[..., 0], want) < 1e-12


def test_without_an_mlp_the_width_need_not_be_said():
    layer = trained_mamba2()
    u = an_input(layer, 6)
    np.testing.assert_array_equal(output(with_options(layer, d_ssm=24), u), output(layer, u))
    with pytest.raises(ValueError, match="must have shape"):  # with one it must: nothing else tells where z begins
        output(with_params(layer, in_proj__weight=np.concatenate([np.ones((14, D_MODEL)), layer.params["in_proj.weight"]])), u)


def test_a_head_has_one_pole():
    layer = trained_mamba2()
    sys = layer.along(an_input(layer, 6))
    assert (sys.batch_shape, sys.nstates, sys.ninputs, sys.noutputs) == ((6, 4), 5, 1, 1)
    np.testing.assert_array_equal(sys.log_poles, np.broadcast_to(sys.log_poles[:, :, :1, :1], sys.log_poles.shape))
    assert len(np.unique(sys.log_poles[0])) == 6
    np.testing.assert_array_equal(sys.B, np.broadcast_to(sys.B[:, :, :1], sys.B.shape))
    np.testing.assert_array_equal(sys.C, np.broadcast_to(sys.C[:, :, :1], sys.C.shape))


def test_heads_of_a_group_read_and_write_alike():
    sys = mamba2.recurrence(trained_mamba2().params, an_input(trained_mamba2(), 6), Options(n_groups=2))
    C = sys.C[:, :, 0, 0, :]
    np.testing.assert_array_equal(C[:, [0, 1, 2]], C[:, [1, 2, 0]])
    np.testing.assert_array_equal(C[:, [3, 4, 5]], C[:, [4, 5, 3]])
    assert np.min(np.abs(C[:, 0] - C[:, 3])) > 0


def test_one_group_is_many_equal_groups():
    one = trained_mamba2(n_groups=1)
    p, d, N = one.params, 24, 10

    def repeated(x, start):
        return np.concatenate(
            [x[: start + d], *[x[start + d : start + d + N]] * 3, *[x[start + d + N : start + d + 2 * N]] * 3, x[start + d + 2 * N :]]
        )

    mixing = {name.replace(".", "__"): repeated(p[name], 0) for name in ("conv1d.weight", "conv1d.bias")}
    three = with_options(with_params(one, in_proj__weight=repeated(p["in_proj.weight"], d), **mixing), n_groups=3)
    u = an_input(one, 12)
    np.testing.assert_allclose(output(three, u), output(one, u), rtol=1e-12, atol=1e-13)


def test_multipliers_scale_rows():
    layer = trained_mamba2()
    p, factors = layer.params, (0.5, 1.2, 0.7, 2.0, 0.6)
    rows = np.repeat(factors, [24, 24, 10, 10, 6])
    bias = np.random.default_rng(0).standard_normal(74)
    multiplied = with_options(with_params(layer, in_proj__bias=bias), ssm_in_multiplier=1.5, ssm_multipliers=factors)
    scaled = with_params(layer, in_proj__weight=1.5 * rows[:, None] * p["in_proj.weight"], in_proj__bias=rows * bias)
    u = an_input(layer, 12)
    np.testing.assert_allclose(output(multiplied, u), output(scaled, u), rtol=1e-12, atol=1e-13)


def test_one_feed_through_for_each_head_or_channel():
    layer = trained_mamba2()
    per_channel = with_options(with_params(layer, D=np.repeat(layer.params["D"], 4)), D_has_hdim=True)
    u = an_input(layer, 12)
    np.testing.assert_array_equal(output(per_channel, u), output(layer, u))
    x = layer.core_input(u)
    silent = with_params(layer, D=np.zeros(6))
    np.testing.assert_allclose(output(layer, u) - output(silent, u), layer.params["D"][:, None, None] * x, rtol=1e-9, atol=1e-12)


def test_a_clamped_step_no_longer_depends_on_the_input():
    layer = trained_mamba2(time_step_limit=(0.25, 0.25))
    sys = layer.along(an_input(layer, 6))
    np.testing.assert_allclose(sys.log_poles[..., 0, 0], np.broadcast_to(-0.25 * np.exp(layer.params["A_log"]), (6, 6)), rtol=1e-14)


def test_the_channels_of_a_head_take_no_memory():
    layer = fresh("mamba2", d_model=64, d_state=128)
    length, heads, headdim, N = 64, 2, 64, 128
    u = an_input(layer, length)
    whole = length * heads * headdim * N * 8
    tracemalloc.start()
    sys = layer.along(u)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < whole / 4
    assert kept < whole / 8
    head = sys[1]
    for field_name in ("log_poles", "B", "C"):
        assert getattr(sys, field_name).strides[2] == 0
        assert np.shares_memory(getattr(sys, field_name), getattr(head, field_name))
    x = layer.core_input(u)
    np.testing.assert_allclose(simulate(head, x[:, 1]), simulate(sys, x)[:, 1], rtol=1e-12, atol=1e-14)


# what is refused


@pytest.mark.parametrize("method", ["along", "core_input", "reference"])
@pytest.mark.parametrize(("options", "message"), [
    ({"n_groups": 0}, "n_groups must be a positive whole number, got 0"),
    ({"d_ssm": 0}, "d_ssm must be a positive whole number, got 0"),
    ({"n_groups": 5}, "n_groups divides heads; got 74 and 44 rows with heads = 6, n_groups = 5, d_ssm = None"),
    ({"n_groups": 3}, "must have shape .*n_groups = 3"),
    ({"d_ssm": 20}, "heads divides d_ssm .*d_ssm = 20"),
    ({"d_ssm": 30}, "must have shape .*d_ssm = 30"),
    ({"d_ssm": 44}, "must have shape .*d_ssm = 44"),
    ({"D_has_hdim": True}, r"parameter 'D' of family 'mamba2' must have shape \(d_ssm\) = \(24\), got \(6\)"),
    ({"time_step_limit": (0.1,)}, r"time_step_limit must be two numbers with 0 <= low <= high, got \(0.1,\)"),
    ({"time_step_limit": (0.2, 0.1)}, "time_step_limit must be two numbers"),
    ({"time_step_limit": (-0.1, 0.1)}, "time_step_limit must be two numbers"),
    ({"time_step_limit": (np.nan, 0.1)}, "time_step_limit must be two numbers"),
])  # fmt: skip
def test_options_of_mamba2_are_checked(method, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(trained_mamba2(**options), method)(np.ones((3, D_MODEL)))


@pytest.mark.parametrize("options", [
    {"ssm_multipliers": (1.0, 1.0)}, {"ssm_multipliers": (1.0, 1.0, 1.0, 1.0, np.inf)}, {"ssm_in_multiplier": np.nan},
])  # fmt: skip
def test_multipliers_are_checked(options):
    with pytest.raises(ValueError, match=r"must be (a finite number|five finite numbers, for z, x, B, C and r;),? ?got"):
        trained_mamba2(**options)
