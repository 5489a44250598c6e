"""Scaled layers: what happens to the poles, the input weights and the memory, and that the original recurrence agrees."""

import numpy as np
import pytest

from ssm_analysis import Layer, simulate
from ssm_analysis.analyses.along.forgetting import receptive_field
from ssm_analysis.studies.length_extension import slow_down
from tests.support.families_table import LAYERS, SELECTIVE, an_input, fresh, output, trained, with_options

STEPPED = [name for name in SELECTIVE if "A_log" in LAYERS[name]().params]
GATED = [name for name in SELECTIVE if name not in STEPPED]


@pytest.mark.parametrize("name", SELECTIVE)
def test_the_scale_of_A_scales_the_rates(name):
    layer = LAYERS[name]()
    u = an_input(layer, 9)
    np.testing.assert_allclose(slow_down(layer, A_scale=0.3).along(u).log_poles.real, 0.3 * layer.along(u).log_poles.real, rtol=1e-12)


@pytest.mark.parametrize("name", STEPPED)
def test_the_scale_of_A_leaves_the_input_weights_and_that_of_delta_does_not(name):
    layer = LAYERS[name]()
    u = an_input(layer, 9)
    sys, by_A, by_delta = (x.along(u) for x in (layer, slow_down(layer, A_scale=0.3), slow_down(layer, delta_scale=0.3)))
    np.testing.assert_allclose(by_A.B, sys.B, rtol=1e-14)
    np.testing.assert_allclose(by_delta.B, 0.3 * sys.B, rtol=1e-12)
    np.testing.assert_allclose(by_delta.log_poles, by_A.log_poles, rtol=1e-12)


@pytest.mark.parametrize("name", STEPPED)
def test_the_recurrence_of_the_paper_follows(name):
    layer = slow_down(LAYERS[name](), A_scale=0.5, delta_scale=0.7)
    u = an_input(layer, 20)
    want = layer.reference(u)
    np.testing.assert_allclose(output(layer, u), want, rtol=1e-9, atol=1e-11 * np.max(np.abs(want)))


@pytest.mark.parametrize("name", GATED)
def test_the_gain_of_an_rg_lru_goes_along(name):
    layer = slow_down(LAYERS[name](), A_scale=0.5)
    u = an_input(layer, 20)
    np.testing.assert_allclose(output(layer, u), layer.reference(u), rtol=1e-9, atol=1e-12)


def test_a_scale_of_one_changes_nothing():
    layer = trained(fresh("s6"))
    u = an_input(layer, 9)
    np.testing.assert_array_equal(output(slow_down(layer), u), output(layer, u))


@pytest.mark.parametrize("name", SELECTIVE)
def test_scales_multiply(name):
    layer = LAYERS[name]()
    u = an_input(layer, 9)
    scales = {"A_scale": 0.5} | ({"delta_scale": 0.25} if name in STEPPED else {})
    twice = slow_down(slow_down(layer, **scales), **scales)
    once = slow_down(layer, **{k: v**2 for k, v in scales.items()})
    np.testing.assert_allclose(output(twice, u), output(once, u), rtol=1e-12)


def test_memory_grows_by_the_inverse_scale():
    """Constant steps: the receptive field is log(1 / (1 - share)) / (2 rate)."""
    layer = fresh("s6", d_state=1)
    quiet = {name: 0 * layer.params[name] for name in ("x_proj.weight", "conv1d.weight", "A_log", "dt_proj.weight", "D")}
    constant = {"x_proj.bias": np.ones(3), "dt_proj.bias": np.full(8, np.log(np.expm1(0.1)))}
    layer = Layer(family="s6", params={**layer.params, **quiet, **constant})
    u = an_input(layer, 2000)
    for scale in (1.0, 0.5, 0.1):
        field = receptive_field(slow_down(layer, delta_scale=scale).along(u), shares=(0.9,))
        np.testing.assert_array_equal(field, np.ceil(np.log(10) / (0.2 * scale)) - 1)


def test_what_cannot_be_scaled_is_said():
    with pytest.raises(ValueError, match="A_scale must be a positive number, got 0"):
        slow_down(fresh("s6"), A_scale=0)
    with pytest.raises(ValueError, match="delta_scale must be a positive number, got nan"):
        slow_down(fresh("s6"), delta_scale=float("nan"))
    with pytest.raises(ValueError, match="slow_down takes a selective layer, and one of family 'lru' does not depend on its input"):
        slow_down(fresh("lru"))
    with pytest.raises(ValueError, match="an RG-LRU has no step delta to scale; scale its decay with A_scale"):
        slow_down(fresh("rg_lru"), delta_scale=0.5)


@pytest.mark.parametrize("name", STEPPED)
def test_the_option_is_checked_by_the_family(name):
    with pytest.raises(ValueError, match=r"delta_scale must be a positive number, got -1\.0"):
        with_options(LAYERS[name](), delta_scale=-1.0)


# windows of channels


@pytest.mark.parametrize("name", SELECTIVE)
def test_windows_are_the_layer(name):
    layer = LAYERS[name]()
    u = an_input(layer, 7)
    sys = layer.along(u)
    for size in (1, 3, len(sys) + 5):
        parts = list(layer.windows(u, channels=size))
        assert [len(part) for part in parts] == [min(size, len(sys) - i) for i in range(0, len(sys), size)]
        for field in sys.AXES:
            np.testing.assert_array_equal(np.concatenate([getattr(part, field) for part in parts], axis=1), getattr(sys, field))


@pytest.mark.parametrize("name", SELECTIVE)
@pytest.mark.parametrize("channels", [slice(1, 2), slice(None, None, 2), slice(-1, None)])
def test_some_channels_are_those_of_the_whole(name, channels):
    layer = LAYERS[name]()
    u = an_input(layer, 7)
    if len(layer.along(u)[channels]) == 0:
        return
    found, want = layer.along(u, channels=channels), layer.along(u)[channels]
    for field in want.AXES:
        np.testing.assert_array_equal(getattr(found, field), getattr(want, field))
    core = layer.core_input(u)[:, channels]
    np.testing.assert_allclose(simulate(found, core), output(layer, u)[:, channels], rtol=1e-12, atol=1e-12)


def test_windows_are_of_selective_layers_and_of_some_size():
    with pytest.raises(ValueError, match="channels must be a positive integer, the size of a window, got 0"):
        fresh("s6").windows(np.ones((3, 4)), channels=0)
    with pytest.raises(ValueError, match="a layer of family 'lru' does not depend on its input"):
        fresh("lru").windows(np.ones((3, 4)), channels=2)
