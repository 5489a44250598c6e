"""Layers that are in no list: renamed layouts, layouts of one's own, a family of one's own, and the example that shows them."""

import importlib
import itertools
import json
import pickle
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import ssm_analysis as ssm
from ssm_analysis.cli import main
from ssm_analysis.plots.checkpoints import checkpoint_picture
from tests.support.stored_layers import NAME, stored, trained

ROOT = Path(__file__).parents[2]
LRU = ssm.FAMILIES["lru"].layouts[0]
THEIRS = {"nu_log": "decay.log_rate", "B_re": "read.real", "D": "skip"}


@pytest.fixture
def examples(monkeypatch):
    """The modules of the example; the family that it registers is gone afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    own_layers, oscillator = (importlib.import_module(name) for name in ("own_layers", "oscillator"))
    monkeypatch.setitem(ssm.FAMILIES, "oscillator", oscillator.FAMILY)
    yield own_layers, oscillator
    for name in ("own_layers", "oscillator"):
        del sys.modules[name]


# renamed layouts


def renamed(layer):
    return {f"{NAME}.{THEIRS.get(name, name)}": np.array(x) for name, x in layer.params.items()}


def test_a_mapping_of_names_opens_a_layer_under_other_names():
    layer = trained("lru")
    (found,) = ssm.load(renamed(layer), layouts=[LRU.with_names(THEIRS)]).values()
    assert found.family == "lru"
    assert found.name == NAME
    for name, x in layer.params.items():
        np.testing.assert_array_equal(found.params[name], x)


def test_without_it_nothing_is_found():
    with pytest.raises(ssm.CheckpointError, match=r"no recurrent layer was recognized .* pass a layout"):
        ssm.load(renamed(trained("lru")))


def test_a_renamed_layout_keeps_everything_else():
    mamba = next(layout for layout in ssm.FAMILIES["s6"].layouts if layout.title == "Mamba")
    mine = mamba.with_names({"A_log": "rates", "conv1d.bias": "conv.shift"}, title="mine")
    assert (mine.title, mine.anchor, mine.options, mine.family) == ("mine", "rates", mamba.options, "s6")
    assert list(mine.shapes.values()) == list(mamba.shapes.values())
    assert "conv.shift" in mine.optional
    assert set(mamba.required) - {"A_log"} == set(mine.required) - {"rates"}
    source = stored(trained("s6"))
    source = {name.replace("A_log", "rates").replace("conv1d.bias", "conv.shift"): x for name, x in source.items()}
    (found,) = ssm.load(source, layouts=[mine], assume={"dt_offset": 0.1}).values()
    np.testing.assert_array_equal(found.params["A_log"], trained("s6").params["A_log"])
    assert found.options.dt_offset == 0.1


def test_a_renamed_layout_sees_the_other_shapes_under_the_old_names():
    """Its condition on shapes is about the names of the original."""
    original = replace(LRU, where=lambda shapes: shapes["nu_log"] == (8,))
    assert len(ssm.load(renamed(trained("lru")), layouts=[original.with_names(THEIRS)])) == 1
    strict = replace(LRU, where=lambda shapes: shapes["nu_log"] == (9,))
    with pytest.raises(ssm.CheckpointError, match="its shapes do not fit each other"):
        ssm.load(renamed(trained("lru")), layouts=[strict.with_names(THEIRS)])


def test_names_that_a_layout_does_not_have():
    with pytest.raises(KeyError, match="layout 'minimal-LRU' has no tensor nu, gamma; it has nu_log, theta_log"):
        LRU.with_names({"nu": "a", "gamma": "b", "D": "c"})


def test_layouts_can_be_sent_to_other_processes():
    sent = pickle.loads(pickle.dumps(LRU.with_names(THEIRS)))
    (found,) = ssm.load(renamed(trained("lru")), layouts=[sent]).values()
    np.testing.assert_array_equal(found.params["nu_log"], trained("lru").params["nu_log"])


# layouts of one's own


def rates(tensors, options):
    """A layer that keeps -log|lambda| itself, and has no D."""
    params = {name: x for name, x in tensors.items() if name != "rate"}
    D = np.full(params["C_re"].shape[0], options["through"])
    return [ssm.Part(params={**params, "nu_log": np.log(tensors["rate"]), "D": D}, notes=("D is made up",))]


RATES = ssm.Layout(
    title="rates",
    family="lru",
    shapes={"rate": "N", **{name: axes for name, axes in LRU.shapes.items() if name not in ("nu_log", "D")}},
    options={"through": 0.0},
    folded=frozenset({"through"}),
    choices={"through": (0.0, 1.0)},
    decode=rates,
)


def with_rates(layer):
    tensors = {f"{NAME}.{name}": np.array(x) for name, x in layer.params.items() if name not in ("nu_log", "D")}
    return {**tensors, f"{NAME}.rate": np.exp(layer.params["nu_log"])}


def test_a_layout_with_a_function():
    layer = trained("lru")
    (found,) = ssm.load(with_rates(layer), layouts=[RATES]).values()
    np.testing.assert_allclose(found.params["nu_log"], layer.params["nu_log"], rtol=1e-14)
    assert found.notes == ("D is made up",)
    assert found.assumptions["through"].source == "original default"
    (row,) = ssm.inspect(with_rates(layer), layouts=[RATES])
    assert (row["layout"], row["notes"]) == ("rates", ["D is made up"])
    (same,) = ssm.compare(with_rates(layer), with_rates(layer), layouts=[RATES])
    assert same["changes"] == {}


def test_options_of_a_layout_of_ones_own():
    (found,) = ssm.load(with_rates(trained("lru")), layouts=[RATES], assume={"through": 1.0}).values()
    np.testing.assert_array_equal(found.params["D"], np.ones(3))
    (found,) = ssm.load(with_rates(trained("lru")), layouts=[RATES], config={"through": 1.0}).values()
    np.testing.assert_array_equal(found.params["D"], np.ones(3))
    with pytest.raises(ValueError, match=r"assume: through must be one of 0.0, 1.0, got 2.0"):
        ssm.load(with_rates(trained("lru")), layouts=[RATES], assume={"through": 2.0})


def test_own_layouts_come_before_those_of_the_families():
    mine = replace(LRU, title="mine")
    assert ssm.inspect(stored(trained("lru")), layouts=[mine])[0]["layout"] == "mine"


def test_a_function_that_fails_says_which_layer():
    def broken(tensors, options):
        raise KeyError("gamma")

    with pytest.raises(ssm.CheckpointError, match=rf"layer '{NAME}' \(rates\): gamma"):
        ssm.load(with_rates(trained("lru")), layouts=[replace(RATES, decode=broken)])


def test_parameters_that_the_family_does_not_know():
    def wrong(tensors, options):
        return [ssm.Part(params={"nu": tensors["rate"]})]

    (layer,) = ssm.load(with_rates(trained("lru")), layouts=[replace(RATES, decode=wrong, options={})]).values()
    with pytest.raises(KeyError, match=r"parameters of family 'lru': missing nu_log, .*; unknown nu"):
        layer.system()


# the example


def test_the_program_prints_what_the_documentation_shows(examples, capsys):
    assert examples[0].main() == 0
    printed = capsys.readouterr().out.strip()
    shown = re.search(r"\$ python examples/own_layers.py\n(.*?)\n```", (ROOT / "docs" / "own_layers.md").read_text(), re.DOTALL)
    assert shown
    assert shown.group(1) == printed
    assert printed.count("within 1e-6 of the module: True") == 5


@pytest.mark.parametrize("what", ["REMEMBERING", "FILTERS", "to_s4d"])
def test_the_documentation_has_the_code_of_the_example(what):
    """Line by line, apart from annotations and docstrings."""
    source = (ROOT / "examples" / "own_layers.py").read_text()
    shown = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own_layers.md").read_text(), re.DOTALL))
    start = re.search(rf"^(def )?{what}\b.*$", shown, re.MULTILINE)
    assert start
    lines = list(itertools.takewhile(str.strip, shown[start.end() :].lstrip("\n").splitlines()))
    assert len(lines) >= 3
    for line in lines:
        assert line.strip() in source or line.startswith("layers = ssm.load"), line


def test_systems_follow_the_modules_to_rounding(examples):
    """The doubles of a network, whose FFT and loops are another way to compute the same."""
    own_layers, _ = examples
    torch.manual_seed(3)
    module = own_layers.Filters().double()
    u = torch.randn(1, 100, own_layers.WIDTH, dtype=torch.float64)
    (layer,) = ssm.load(module, layouts=[own_layers.FILTERS]).values()
    y, wanted = ssm.simulate(layer.system(), layer.core_input(u[0].numpy()))[..., 0], module(u)[0].detach().numpy()
    np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-10 * np.max(np.abs(wanted)))


def test_family_in_one_file(examples, rng):
    """Against its own step-by-step recurrence in real position and velocity, and with gradients."""
    _, oscillator = examples
    layer = oscillator.init(d_model=3, d_state=5, seed=1)
    u = rng.standard_normal((60, 3))
    np.testing.assert_allclose(ssm.simulate(layer.system(), u), layer.reference(u), rtol=1e-9, atol=1e-11)
    w, zeta = np.exp(layer.params["log_frequency"]), 1 / (1 + np.exp(-layer.params["damping_logit"]))
    np.testing.assert_allclose(np.abs(layer.spectrum().log_poles), w, rtol=1e-12)
    np.testing.assert_allclose(-layer.spectrum().log_poles.real / w, zeta, rtol=1e-12)
    names = list(layer.params)

    def response(*params):
        return ssm.simulate(oscillator.system(dict(zip(names, params, strict=True))), torch.tensor(u[:5]))

    params = tuple(torch.tensor(np.array(x), requires_grad=True) for x in layer.params.values())
    assert torch.autograd.gradcheck(response, params, fast_mode=True)


def test_everything_works_with_a_family_of_ones_own(examples, tmp_path, capsys):
    _, oscillator = examples
    layer = oscillator.init(d_model=3, d_state=5)
    path = tmp_path / "model.npz"
    np.savez(path, **{f"layers/0/{name}": x for name, x in layer.params.items()})
    (row,) = ssm.inspect(path)
    assert (row["name"], row["family"], row["states"]) == ("layers.0", "oscillator", 5)
    assert [finding["code"] for finding in row["findings"]] == ["fresh-damping_logit"]
    found = ssm.load(path)["layers.0"]
    assert ssm.details(found)["poles_of"] == "diagonal, exact from the parameters"
    assert ssm.compare(path, path)[0]["findings"][0]["code"] == "identical"
    assert ssm.matrices(found)["A"].shape == (10, 10)
    assert main(["inspect", str(path)]) == 0
    assert "oscillator" in capsys.readouterr().out
    assert checkpoint_picture("unit-disk", path).axes
    assert checkpoint_picture("bode", path).axes


OWN_FILE = """
import ssm_analysis as ssm
MINE = ssm.FAMILIES["lru"].layouts[0].with_names({"nu_log": "decay.log_rate", "B_re": "read.real", "D": "skip"}, title="mine")
"""


def test_layouts_and_families_on_the_command_line(examples, tmp_path, capsys):
    """A file of one's own with layouts, or with a family."""
    _, oscillator = examples
    own, model = tmp_path / "own.py", tmp_path / "model.npz"
    own.write_text(OWN_FILE)
    np.savez(model, **renamed(trained("lru")))
    assert main(["inspect", str(model), "--own", str(own), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["layout"] == "mine"
    assert main(["export", str(model), "--own", str(own), "--layer", NAME, "--to", "npz", "--out", str(tmp_path / "a.npz")]) == 0
    np.savez(model, **oscillator.init(d_model=3, d_state=5).params)
    del ssm.FAMILIES["oscillator"]
    assert main(["inspect", str(model)]) == 2
    capsys.readouterr()
    assert main(["inspect", str(model), "--own", str(ROOT / "examples" / "oscillator.py"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["family"] == "oscillator"


@pytest.mark.parametrize(
    ("content", "message"), [(None, "No such file"), ("x = 1", "must be a Python file that defines layouts or a FAMILY")]
)
def test_a_file_of_ones_own_with_nothing_in_it(tmp_path, capsys, content, message):
    own, model = tmp_path / "own.py", tmp_path / "model.npz"
    np.savez(model, **renamed(trained("lru")))
    if content is not None:
        own.write_text(content)
    assert main(["inspect", str(model), "--own", str(own)]) == 2
    assert message in capsys.readouterr().err
