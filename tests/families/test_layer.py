"""A layer as a user meets it: what it checks, what it hands on, and what it says."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from ssm_analysis import Layer, RealDiagonalSSM, StateSpace
from ssm_analysis.analyses.spectrum.eigenvalues import diagonal_spectrum
from ssm_analysis.families import Assumption
from ssm_analysis.families.base import initialized
from ssm_analysis.systems import DiagonalLTV
from tests.support.every_family import EVERY_FAMILY, SELECTIVE_FAMILIES, TIME_INVARIANT_FAMILIES
from tests.support.families_table import an_input, exported, fresh, with_options
from tests.support.systems_table import STABLE

LRU = {"params": fresh("lru", d_model=2, d_state=3).params}


# what it hands on


@pytest.mark.parametrize("family", TIME_INVARIANT_FAMILIES)
def test_a_time_invariant_layer_has_a_system(family):
    layer = fresh(family)
    assert not layer.time_varying
    assert isinstance(layer.system(), StateSpace if family == "s4" else RealDiagonalSSM)


@pytest.mark.parametrize("family", SELECTIVE_FAMILIES)
def test_a_selective_layer_has_a_system_along_an_input(family):
    layer = fresh(family)
    assert layer.time_varying
    assert isinstance(layer.along(an_input(layer, 3)), DiagonalLTV)


def test_batches_are_channels():
    assert fresh("s4", d_model=6).system().batch_shape == (6,)
    assert fresh("s4d", d_model=6, channels=2).system().noutputs == 2
    for name in ("s5", "lru"):
        sys = fresh(name, d_model=6).system()
        assert (sys.batch_shape, sys.ninputs, sys.noutputs) == ((), 6, 6)
    assert fresh("s6", d_model=6).along(np.ones((3, 6))).batch_shape == (12,)
    assert fresh("rg_lru", d_model=6).along(np.ones((3, 6))).batch_shape == (6,)


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_one_token_is_one_unit_of_time(family):
    layer = fresh(family)
    assert exported(layer, an_input(layer, 3)).dt == 1


def test_options_reach_the_family():
    layer = fresh("s4d", disc="bilinear")
    assert vars(layer.options) == {
        "dt_transform": "exp", "real_transform": "exp", "imag_transform": "none", "disc": "bilinear", "strictly_causal": False,
    }  # fmt: skip
    assert layer.assumptions["disc"] == Assumption(value="bilinear", source="initialization")
    zoh = with_options(layer, disc="zoh")
    assert zoh.assumptions["disc"].source == "caller"
    np.testing.assert_array_equal(zoh.system().log_poles, fresh("s4d").system().log_poles)
    assert np.max(np.abs(zoh.system().poles() - layer.system().poles())) > 1e-6
    with pytest.raises(ValueError, match="disc must be one of 'zoh', 'bilinear'; got 'euler'"):
        with_options(layer, disc="euler").system()
    with pytest.raises(ValueError, match="disc must be one of 'zoh', 'bilinear'; got 'euler'"):
        with_options(layer, disc="euler").reference(np.ones((3, 4)))
    with pytest.raises(ValueError, match="conv_padding must be one of 'causal', 'same'; got 'valid'"):
        with_options(fresh("s6"), conv_padding="valid").along(np.ones((3, 4)))
    with pytest.raises(ValueError, match="discretization must be one of 'zoh', 'bilinear'; got 'euler'"):
        with_options(fresh("s5"), discretization="euler").system()


def test_an_initialized_layer_says_so():
    layer = initialized("lru", LRU["params"])
    assert layer.assumptions == {}
    assert layer.name == ""
    assert initialized("s5", fresh("s5").params, conj_sym=True).assumptions == {"conj_sym": Assumption(value=True, source="initialization")}


def test_the_spectrum_belongs_to_the_system():
    for name, one_of_each_pair in (("s4d", True), ("s5", True), ("lru", False)):
        layer = fresh(name)
        spectrum = layer.spectrum()
        np.testing.assert_array_equal(spectrum.log_poles, layer.system().log_poles)
        np.testing.assert_array_equal(spectrum.condition, np.full(layer.system().batch_shape, layer.system().nstates))
        assert spectrum.error == 0
        assert spectrum.one_of_each_pair == one_of_each_pair
        assert spectrum.matrix == "diagonal, exact from the parameters"
        initial = layer.initial_spectrum()
        np.testing.assert_array_equal(initial.log_poles, spectrum.log_poles)
    assert not fresh("s5", conj_sym=False).spectrum().one_of_each_pair
    assert not fresh("s4d", init="real").spectrum().one_of_each_pair


@pytest.mark.parametrize("options", [{"disc": "bilinear"}, {"dt_transform": "softplus"}, {"real_transform": "softplus"}])
def test_options_reach_the_spectrum(options):
    layer = with_options(fresh("s4d"), **options)
    np.testing.assert_array_equal(layer.spectrum().log_poles, layer.system().log_poles)


@pytest.mark.parametrize("options", [{"discretization": "bilinear"}, {"step_rescale": 3.0}, {"clip_eigs": True}])
def test_options_reach_the_spectrum_of_s5(options):
    layer = with_options(replace(fresh("s5"), params=dict(fresh("s5").params) | {"Lambda_re": np.array([0.1, -1.0, -2.0, 0.0])}), **options)
    np.testing.assert_array_equal(layer.spectrum().log_poles, layer.system().log_poles)


@pytest.mark.parametrize("name", ["complex_batch", "diagonal_real_siso", "realpart_siso"])
def test_a_diagonal_matrix_has_orthonormal_eigenvectors(name):
    """Their condition number in Frobenius norms is n."""
    sys = STABLE[name]
    spectrum = diagonal_spectrum(sys.log_poles, one_of_each_pair=False)
    assert spectrum.condition.dtype == np.float64
    np.testing.assert_array_equal(spectrum.condition, np.full(sys.batch_shape, sys.nstates))


def test_map_and_repr():
    layer = with_options(Layer(family="lru", name="layers.0.seq", **LRU))
    single = layer.map(lambda x: x.astype(np.float32))
    assert {x.dtype for x in single.params.values()} == {np.dtype(np.float32)}
    assert single.name == layer.name
    assert {type(x) for x in layer.map(torch.tensor).params.values()} == {torch.Tensor}
    assert repr(layer).startswith("Layer(family='lru', name='layers.0.seq', nu_log (3,), theta_log (3,), gamma_log (3,), B_re (3, 2), ")
    assert repr(fresh("s4d")).endswith("dt_transform='exp', real_transform='exp', imag_transform='none', disc='zoh')")


# frozen


def test_a_layer_cannot_be_changed():
    arrays = {name: np.array(x) for name, x in LRU["params"].items()}
    layer = Layer(family="lru", params=arrays)
    with pytest.raises(FrozenInstanceError):
        layer.family = "s5"
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.params["D"] = np.ones(2)
    with pytest.raises(TypeError, match="does not support item assignment"):
        layer.assumptions["c"] = Assumption(value=8.0, source="caller")
    with pytest.raises(ValueError, match="read-only"):
        layer.params["D"][0] = 1.0
    arrays["D"][0] = arrays["D"][0]  # the caller's own array stays his own
    arrays.pop("D")
    assert "D" in layer.params
    with pytest.raises(FrozenInstanceError):
        Assumption(value=1, source="file").value = 2


# what it refuses


def test_the_family_must_exist():
    with pytest.raises(KeyError, match="unknown family 'mamba'; there are s4, "):
        Layer(family="mamba", **LRU)


def test_parameters_are_finite_arrays_of_one_library():
    with pytest.raises(TypeError, match="parameter 'D' must be an array, got list"):
        Layer(family="lru", params=dict(LRU["params"]) | {"D": [1.0, 2.0]})
    with pytest.raises(TypeError, match=r"the parameters of a layer must be arrays of one library, got .*Tensor"):
        Layer(family="lru", params=dict(LRU["params"]) | {"D": torch.ones(2)})
    with pytest.raises(ValueError, match=r"parameter 'D' of layer 'layers.1' must be finite, got NaN or infinite entries"):
        Layer(family="lru", name="layers.1", params=dict(LRU["params"]) | {"D": np.array([1.0, np.nan])})


@pytest.mark.parametrize("name", SELECTIVE_FAMILIES)
def test_a_selective_layer_has_no_system_of_its_own(name):
    layer = fresh(name)
    for method in ("system", "spectrum"):
        with pytest.raises(
            ValueError, match=rf"family '{name}' depends on its input, so it has no {method}\(\) of its own; use layer.along"
        ):
            getattr(layer, method)()


@pytest.mark.parametrize("family", TIME_INVARIANT_FAMILIES)
def test_a_time_invariant_layer_has_nothing_to_go_along(family):
    with pytest.raises(ValueError, match=rf"a layer of family '{family}' does not depend on its input; use layer.system\(\)"):
        fresh(family).along(np.ones((3, 4)))


def test_parameters_that_do_not_make_a_layer_are_named():
    s4d = fresh("s4d")
    with pytest.raises(KeyError, match="missing A_imag; only S4D-Real, whose B and C are real, has none"):
        replace(s4d, params={k: x for k, x in s4d.params.items() if k != "A_imag"}).system()
    with pytest.raises(ValueError, match=r"inv_dt must have shape \(H, 1\) or \(H, n\) with n = 4, got \(4, 3\)"):
        replace(s4d, params=dict(s4d.params) | {"inv_dt": np.zeros((4, 3))}).system()
    with pytest.raises(ValueError, match=r"the number of channels must be a multiple of the number of copies \(n_ssm\), got 4 and 3"):
        replace(s4d, params=dict(s4d.params) | {k: np.concatenate([s4d.params[k]] * 3) for k in ("A_real", "A_imag", "B")}).system()
    heads = fresh("rg_lru", heads=2)
    with pytest.raises(ValueError, match="the gates of an RG-LRU must cover its width W = 6, got 2 blocks of 2"):
        replace(heads, params=dict(heads.params) | {"a_param": np.zeros(6)}).along(np.ones((3, 6)))
    with pytest.raises(KeyError, match=r"an RG-LRU with its block needs all of linear_x.weight, .*got conv_1d.b"):
        replace(heads, params=dict(heads.params) | {"conv_1d.b": np.zeros(4)}).along(np.ones((3, 4)))
