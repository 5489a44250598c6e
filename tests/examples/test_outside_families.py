"""Families outside the package are treated exactly as those inside: one time-invariant and one selective of each, the same test."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import ssm_analysis as ssm
from ssm_analysis.cli import main
from ssm_analysis.cli.plot import PICTURES
from ssm_analysis.plots.checkpoints import NEEDS_SYSTEM, checkpoint_picture

ROOT = Path(__file__).parents[2]
WIDTH = 4


def source_of(name):
    """The file of a family outside: an example, or the code of CONTRIBUTING.md."""
    if name == "oscillator":
        return (ROOT / "examples" / "oscillator.py").read_text(encoding="utf-8")
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[0]


@pytest.fixture(params=["s5", "oscillator", "s6", "leaky"])
def case(request, tmp_path, monkeypatch):
    """Name, fresh layer, checkpoint with a norm in front, and what the command line needs to know."""
    monkeypatch.chdir(tmp_path)
    name, own = request.param, []
    if name not in ssm.FAMILIES:
        path = tmp_path / f"{name}.py"
        path.write_text(source_of(name), encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        ssm.FAMILIES[name] = module.FAMILY
        own = ["--own", str(path)]
    layer = ssm.FAMILIES[name].init(d_model=WIDTH)
    yield name, layer, own
    if own:
        del ssm.FAMILIES[name]


def stored(path, layer, **changed):
    tensors = {f"blocks.0.core.{key}": changed.get(key, x) for key, x in layer.params.items()}
    np.savez(path, **tensors, **{"blocks.0.ln.weight": np.full(WIDTH, 0.5)})
    return str(path)


def codes(path):
    (row,) = ssm.inspect(path)
    return {finding["code"] for finding in row["findings"]}


def test_it_is_inspected_compared_and_audited(case, capsys):
    name, layer, own = case
    path = stored("model.npz", layer)
    (row,) = ssm.inspect(path)
    assert (row["name"], row["family"], row["time_varying"]) == ("blocks.0.core", name, layer.time_varying)
    assert 0 < row["abs_max"] < 1
    assert "error" not in row
    assert ssm.load(path)["blocks.0.core"].params.keys() == layer.params.keys()
    assert ssm.compare(path, path)[0]["findings"][0]["code"] == "identical"
    assert ssm.details(ssm.load(path)["blocks.0"])["damping"]
    assert {row["dtype"] for row in ssm.precision_audit(layer)}
    for arguments in (["inspect", path], ["inspect", path, "--layer", "blocks.0"], ["inspect", path, "--against", path]):
        assert main([*arguments, *own, "--json"]) == 0
        assert name in capsys.readouterr().out or "--against" in arguments


def test_the_doctor_sees_what_the_family_says(case):
    """Dead, fresh and unstable, as far as a family can be: of each what its facts know."""
    name, layer, _ = case
    facts, options = ssm.FAMILIES[name].facts, layer.options
    fresh = {f"fresh-{tensor.name}" for tensor in facts.fresh(layer.params, options)}
    assert fresh <= codes(stored("fresh.npz", layer))
    dead = {"s5": {"B": 0}, "oscillator": {"B": 0}, "s6": {"conv1d.weight": 0}, "leaky": {"leak_bias": 800}}[name]
    changed = {key: np.full_like(layer.params[key], value) for key, value in dead.items()}
    assert "dead" in codes(stored("dead.npz", layer, **changed))
    assert "dead" not in codes("fresh.npz")
    if name == "s5":
        assert "unstable" in codes(stored("unstable.npz", layer, Lambda_re=np.abs(layer.params["Lambda_re"])))


def test_a_time_invariant_layer_is_certified_as_its_system_is(case):
    _name, layer, _ = case
    if layer.time_varying:
        pytest.skip("a selective layer has no system of its own")
    of_layer, of_system = ({c.property: c.verdict for c in ssm.verify(x, dtypes=[])} for x in (layer, layer.system()))
    assert of_layer == of_system
    assert of_layer["asymptotic_stability"] == "proved"


def test_behind_a_norm_stability_is_proved_and_the_state_bounded(case, capsys):
    _name, layer, own = case
    path = stored("model.npz", layer)
    asked = ["--property", "uniform_exponential_stability", "--property", "bounded_state"]
    assert main(["verify", path, *own, "--norm", "ln", *asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdicts"]["proved"] == 2
    bound = {c["property"]: c["per_channel"]["upper"] for c in found["layers"]["blocks.0.core"] if "upper" in c["per_channel"]}
    u = np.random.default_rng(1).standard_normal((200, WIDTH))
    u *= 0.5 * np.sqrt(WIDTH) / np.linalg.norm(u, axis=1, keepdims=True)  # what the norm lets pass
    if layer.time_varying:
        largest = ssm.state_growth(layer.along(u), layer.core_input(u)).largest
        assert np.max(largest) <= np.max(bound["bounded_state"]) * (1 + 1e-12)
    assert main(["verify", path, *own, *asked]) in (0, 3)  # without the norm a selective layer may be undecided


@pytest.mark.parametrize("picture", PICTURES)
def test_every_picture_draws_it(case, picture):
    _name, layer, own = case
    path = stored("model.npz", layer)
    refused = picture in NEEDS_SYSTEM and layer.time_varying
    assert main(["plot", path, picture, *own, "--out", "out.png"]) == (2 if refused else 0)
    assert Path("out.png").exists() != refused
    if not refused:
        assert checkpoint_picture(picture, path).axes


@pytest.mark.parametrize("to", ["npz", "mat", "control-script"])
def test_it_is_exported(case, to):
    _name, layer, own = case
    path = stored("model.npz", layer)
    np.save("u.npy", np.random.default_rng(2).standard_normal((6, WIDTH)))
    along = ["--input", "u.npy"] if layer.time_varying else []
    out = f"out.{ {'npz': 'npz', 'mat': 'mat', 'control-script': 'py'}[to] }"
    refused = to == "control-script" and layer.time_varying
    assert main(["export", path, "--layer", "blocks.0", "--to", to, *along, *own, "--out", out]) == (2 if refused else 0)
    assert Path(out).exists() != refused
