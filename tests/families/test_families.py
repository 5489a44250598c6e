"""What every family promises, whatever its equation: a family that is added takes part without a word here."""

import inspect
import io
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import ssm_analysis.families as package
from ssm_analysis import FAMILIES, Layer, simulate
from ssm_analysis.analyses.responses.frequency import frequency_response
from ssm_analysis.analyses.spectrum.modes import poles
from ssm_analysis.families import PAPER, Features, SelectiveFamily, TimeInvariantFamily, base
from tests.support.families_table import (
    FRESH,
    GRADIENTS,
    LAYERS,
    SELECTIVE,
    TIME_INVARIANT,
    an_input,
    d_model,
    exported,
    fresh,
    output,
    trained,
    with_params,
    without,
)

NOT_NEEDED = {"s6": {"in_proj.bias", "conv1d.bias", "x_proj.bias"}, "mamba2": {"in_proj.bias", "conv1d.bias"}}
FREE_AXIS = {"s4": {"P"}, "rg_lru": {"conv_1d.w"}}  # the rank, and the number of taps: nothing else depends on their first axis


def in_torch(layer, *, gradients=False):
    return layer.map(lambda x: torch.tensor(np.array(x), requires_grad=gradients))


def assert_same_signal(y, want, rtol):
    """Within rtol of the largest number of each channel."""
    assert y.shape == want.shape
    np.testing.assert_array_less(np.max(np.abs(y - want), axis=0), rtol * np.max(np.abs(want), axis=0) + 1e-300)


# the recurrence


@pytest.mark.parametrize("name", LAYERS)
def test_simulation_is_the_recurrence_of_the_paper(name):
    layer = LAYERS[name]()
    u = an_input(layer, 60)
    assert_same_signal(output(layer, u), layer.reference(u), 1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_single_precision_stays_and_the_reference_lifts(name):
    layer = LAYERS[name]().map(lambda x: x.astype(np.complex64 if np.iscomplexobj(x) else np.float32))
    u = an_input(layer, 40).astype(np.float32)
    want = layer.reference(u)
    assert want.dtype == np.float64
    y = output(layer, u)
    assert y.dtype == np.float32
    assert_same_signal(y, want, 3e-5)
    assert_same_signal(in_torch(layer).reference(torch.tensor(u)), want, 1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_one_token(name):
    layer = LAYERS[name]()
    u = an_input(layer, 1)
    assert_same_signal(output(layer, u), layer.reference(u), 1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_causal_and_in_tune_with_the_start(name):
    """What comes later changes nothing before; the first tokens alone give the same."""
    layer = LAYERS[name]()
    ahead = 2 if getattr(layer.options, "conv_padding", "causal") == "same" else 0
    u = an_input(layer, 20)
    np.testing.assert_allclose(layer.reference(u)[: 12 - ahead], layer.reference(u[:12])[: 12 - ahead], rtol=1e-13)
    np.testing.assert_allclose(output(layer, u)[: 12 - ahead], output(layer, u[:12])[: 12 - ahead], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_linear_and_time_invariant(name):
    layer = LAYERS[name]()
    u, v = an_input(layer, 30), an_input(layer, 30, seed=12)
    np.testing.assert_allclose(layer.reference(2 * u - v), 2 * layer.reference(u) - layer.reference(v), rtol=1e-9, atol=1e-11)
    late = np.concatenate([np.zeros((5, d_model(layer))), u])
    np.testing.assert_allclose(layer.reference(late)[5:], layer.reference(u), rtol=1e-12, atol=1e-13)


# other tools


@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_exported_matrices_are_those_of_python_control(name):
    import control

    sys = LAYERS[name]().system()
    omega = np.array([0.0, 0.01, 0.5, 2.0, np.pi])
    for one in [sys] if not sys.batch_shape else [sys[0], sys[-1]]:
        theirs = one.to_control()
        G = np.moveaxis(theirs(np.exp(1j * omega), squeeze=False), -1, 0)
        ours = frequency_response(one, omega)
        np.testing.assert_allclose(ours, G, rtol=0, atol=1e-12 * np.max(np.abs(G)))
        u = np.random.default_rng(0).standard_normal((50, one.ninputs))
        y = control.forced_response(theirs, inputs=u.T, squeeze=False).outputs
        np.testing.assert_allclose(simulate(one, u), y.T, rtol=0, atol=1e-12 * np.max(np.abs(y)))


@pytest.mark.parametrize("name", SELECTIVE)
def test_a_frozen_moment_is_a_system_of_python_control(name):
    layer = LAYERS[name]()
    moment = layer.along(an_input(layer, 6)).frozen(4)
    z = np.exp(1j * np.array([0.0, 0.3, 3.0]))
    for i in (0, -1):
        one = moment[(i,) * len(moment.batch_shape)]
        G = np.moveaxis(one.to_control()(z, squeeze=False), -1, 0)
        np.testing.assert_allclose(one(z), G, rtol=0, atol=1e-12 * np.max(np.abs(G)))


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_survive_a_file(name):
    layer, file = LAYERS[name](), io.BytesIO()
    np.savez(file, **layer.params)
    file.seek(0)
    again = replace(layer, params=dict(np.load(file)))
    u = an_input(layer, 5)
    for field in exported(layer, u).AXES:
        np.testing.assert_array_equal(getattr(exported(again, u), field), getattr(exported(layer, u), field))


@pytest.mark.parametrize("name", LAYERS)
def test_torch_gives_the_same_numbers_and_gradients(name):
    layer = LAYERS[name]()
    u = an_input(layer, 20)
    live = in_torch(layer, gradients=True)
    y = output(live, torch.tensor(u))
    np.testing.assert_allclose(y.detach().numpy(), output(layer, u), rtol=1e-11, atol=1e-13)
    torch.sum(y**2).backward()
    for parameter, x in live.params.items():
        assert x.grad is not None, parameter
        assert torch.all(torch.isfinite(torch.view_as_real(x.grad) if x.is_complex() else x.grad)), parameter
        assert torch.any(x.grad != 0), parameter


@pytest.mark.parametrize("of", ["output", "poles"])
@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name, of):
    layer = in_torch(GRADIENTS[name]())
    names = list(layer.params)
    u = torch.tensor(an_input(layer, 4))

    def f(u, *values):
        moved = replace(layer, params=dict(zip(names, values, strict=True)))
        return output(moved, u) if of == "output" else poles(exported(moved, u))

    inputs = [x.clone().requires_grad_() for x in (u, *layer.params.values())]
    assert torch.autograd.gradcheck(f, inputs, eps=1e-6, atol=1e-6, rtol=1e-4)


# selection


@pytest.mark.parametrize("name", SELECTIVE)
def test_a_constant_input_freezes_a_selective_layer(name):
    """Once the convolution sees nothing but the constant, and behind the first token, the matrices no longer change."""
    layer = LAYERS[name]()
    sys = layer.along(np.ones((12, 1)) * an_input(layer, 1))
    for field in sys.AXES:
        x = getattr(sys, field)
        np.testing.assert_allclose(x[4:9], np.broadcast_to(x[4:5], x[4:9].shape), rtol=1e-13)


@pytest.mark.parametrize("name", SELECTIVE)
def test_a_selective_layer_is_a_linear_map_once_its_system_is_fixed(name):
    layer = LAYERS[name]()
    u = an_input(layer, 10)
    sys, x = layer.along(u), layer.core_input(u)
    np.testing.assert_allclose(simulate(sys, 3 * x), 3 * simulate(sys, x), rtol=1e-12)
    assert np.max(np.abs(layer.reference(3 * u) - 3 * layer.reference(u))) > 1e-3 * np.max(np.abs(layer.reference(u)))


# what is refused


@pytest.mark.parametrize("name", FRESH)
def test_missing_unknown_and_misshapen_parameters_are_named(name):
    layer = FRESH[name]()
    u = an_input(layer, 3)
    with pytest.raises(KeyError, match=rf"parameters of family '{layer.family}': unknown extra; wanted"):
        exported(with_params(layer, extra=np.ones(2)), u)
    for parameter, x in layer.params.items():
        if parameter not in NOT_NEEDED.get(layer.family, ()):
            with pytest.raises(KeyError, match=rf"(missing|needs all of).*{parameter}"):
                exported(without(layer, parameter), u)
        with pytest.raises(ValueError, match=rf"parameter '{parameter}' of family '{layer.family}' must have shape \(.*got \(1, "):
            exported(replace(layer, params=dict(layer.params) | {parameter: x[None]}), u)
        if parameter not in FREE_AXIS.get(layer.family, ()):
            with pytest.raises(ValueError, match=r"must have shape|must cover its width|must divide"):
                exported(replace(layer, params=dict(layer.params) | {parameter: np.concatenate([x, x])}), u)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_must_be_finite(family, bad):
    layer = fresh(family)
    for parameter, x in layer.params.items():
        broken = np.array(x)
        broken[(0,) * x.ndim] = bad
        with pytest.raises(ValueError, match=rf"parameter '{parameter}' of layer '' must be finite, got NaN or infinite entries"):
            replace(layer, params=dict(layer.params) | {parameter: broken})


@pytest.mark.usefixtures("unchecked_annotations")
@pytest.mark.parametrize(
    ("name", "method"), [(n, m) for n in LAYERS for m in ("core_input", "reference")] + [(n, "along") for n in SELECTIVE]
)
def test_an_input_that_does_not_fit_is_refused(name, method):
    layer = LAYERS[name]()
    call, u = getattr(layer, method), an_input(layer, 3)
    wide = np.concatenate([u, u], axis=1)
    for wrong in (wide, u[:, :1], u[0], u[None], u[:0]):
        with pytest.raises(ValueError, match=r"u must have shape \(L, .*got \("):
            call(wrong)
    with pytest.raises(TypeError, match=r"u must be an array of shape \(L, d_model\), got list"):
        call(u.tolist())
    with pytest.raises(TypeError, match=r"u must be an array of the library of the parameters, .*numpy.*got .*torch"):
        call(torch.tensor(u))
    for numbers in (u.astype(int), u + 0j, u > 0):
        with pytest.raises(TypeError, match=r"u must hold real floating-point numbers, got (int64|complex128|bool)"):
            call(numbers)


@pytest.mark.parametrize("name", TIME_INVARIANT)
def test_an_unknown_option_is_refused(name):
    layer = LAYERS[name]()
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        FAMILIES[layer.family].system(layer.params, wrong=1)


def test_an_unknown_family_is_refused_with_the_list():
    with pytest.raises(KeyError, match="unknown family 'mamba'; there are s4, s4d, s5, lru, s6, rg_lru"):
        FAMILIES["mamba"]


# what a family file provides


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_complete(family):
    definition = FAMILIES[family]
    assert definition.name == family
    assert isinstance(definition, SelectiveFamily if hasattr(definition, "along") else TimeInvariantFamily)
    assert definition.title
    assert definition.paper.startswith("arXiv ")
    assert all(getattr(definition.features, field.name) for field in fields(Features))
    layer = definition.init()
    assert isinstance(layer, Layer)
    assert layer.family == family
    assert all(a.source == "initialization" for a in layer.assumptions.values())
    assert isinstance(layer.options, definition.options)
    for function in ("system", "spectrum", "initial_spectrum", "along", "windows", "at_bias", "core_input", "reference"):
        if hasattr(definition, function):
            assert inspect.signature(getattr(definition, function)).parameters["options"].default == definition.options(), function


def test_the_order_is_that_of_the_papers_table():
    assert tuple(FAMILIES)[: len(PAPER)] == PAPER


def test_a_family_is_added_by_adding_a_folder(tmp_path, monkeypatch):
    source = "from dataclasses import replace\nfrom ssm_analysis.families.lru import FAMILY as LRU\nFAMILY = replace(LRU, name='aaa_lru')\n"
    for folder, text in (("aaa_lru", source), ("helper", "ANSWER = 42\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    try:
        found = base._discover()
    finally:
        for name in ("aaa_lru", "helper"):
            monkeypatch.delitem(sys.modules, f"ssm_analysis.families.{name}", raising=False)
    assert list(found) == [*PAPER, "aaa_lru", *list(FAMILIES)[len(PAPER) :]]
    assert found["aaa_lru"].title == "LRU"


@pytest.mark.parametrize("name", FRESH)
def test_training_moves_every_parameter(name):
    """Of the table itself: laws are tested away from the round values of a fresh layer."""
    layer = FRESH[name]()
    assert all(np.all(trained(layer).params[p] != x) for p, x in layer.params.items())
