"""verify() on checkpoints: what is found, what is left open and why, and that nothing is passed over in silence."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch

import ssm_analysis as ssm
from ssm_analysis.certificates import THEOREMS, Certificate, LayerNorm, RMSNorm
from ssm_analysis.certificates.composition import composed
from ssm_analysis.certificates.question import Question
from ssm_analysis.checkpoint.store import CheckpointError
from ssm_analysis.cli import main
from ssm_analysis.families.s4 import model as s4
from tests.families.test_layouts_s4 import CASES as S4_CASES
from tests.families.test_layouts_s4d import CASES as S4D_CASES
from tests.support.every_family import EVERY_FAMILY, row_of
from tests.support.stored_layers import NAME, entry, fresh, stored, trained
from tests.support.torch_blocks import BiMamba, Mamba
from tests.support.verified import verified

ROOT = Path(__file__).parents[2]
AS_DEFINED = ("asymptotic_stability", "uniform_exponential_stability", "non_expansive", "bounded_state", "bounded_output")
EXECUTED = tuple(f"{name}:{dtype}" for dtype in ("fp32", "bf16", "fp16") for name in ("pole_inside", "no_overflow"))


@pytest.fixture
def mamba():
    """Tensors of two blocks with an RMSNorm in front of the second alone."""
    first = {f"net.0.mixer.{name}": x for name, x in trained("s6").params.items()}
    second = {f"net.1.mixer.{name}": x for name, x in fresh("s6").params.items()}
    return {**first, **second, "net.1.norm.weight": np.asarray([1.0, -2.0, 0.5, 3.0])}


def verdicts(certificates):
    return {c.property: c.verdict for c in certificates}


def by_property(certificates):
    return {c.property: c for c in certificates}


def numbers(certificate):
    return {name: (q.lower, q.upper) for name, q in certificate.quantities.items()}


def test_a_certificate_for_each_layer_and_property(mamba):
    found = ssm.verify(mamba)
    assert list(found) == ["net.0.mixer", "net.1.mixer"]
    assert [tuple(verdicts(some)) for some in found.values()] == 2 * [(*AS_DEFINED, *EXECUTED)]
    gains = ssm.verify(mamba, dtypes=["bf16"], hinf_below=1.0, l1_below=2.0)
    assert tuple(verdicts(gains["net.0.mixer"])) == (*AS_DEFINED, "pole_inside:bf16", "no_overflow:bf16", "hinf_below", "l1_below")


def test_the_norm_in_the_file_bounds_its_layer_and_no_other(mamba):
    found = ssm.verify(mamba)
    assert verdicts(found["net.0.mixer"])["bounded_state"] == "undecided"
    assert verdicts(found["net.1.mixer"])["bounded_state"] == "proved"
    by_hand = ssm.verify(ssm.load(mamba)["net.1.mixer"], norm=RMSNorm(weight=mamba["net.1.norm.weight"]))
    for one, other in zip(found["net.1.mixer"], by_hand, strict=True):
        assert numbers(one) == numbers(other)
        assert (one.property, one.verdict, one.sha256) == (other.property, other.verdict, other.sha256)


def test_a_norm_that_is_given_stands_before_that_of_the_file(mamba):
    unit, large = RMSNorm(weight=np.ones(4)), RMSNorm(weight=np.full(4, 10.0))
    by_name = ssm.verify(mamba, norm={"net.1.mixer": unit})
    assert verdicts(by_name["net.0.mixer"])["bounded_state"] == "undecided"
    for_all = ssm.verify(mamba, norm=large)
    assert verdicts(for_all["net.0.mixer"])["bounded_state"] == "proved"
    of = {
        who: by_property(found["net.1.mixer"])["bounded_state"].quantities["largest |h|"].upper
        for who, found in (("unit", by_name), ("file", ssm.verify(mamba)), ("large", for_all))
    }
    assert of["unit"] < of["file"] < of["large"]
    assert "checkpoint" not in " ".join(by_property(by_name["net.1.mixer"])["bounded_state"].assumptions)


def test_a_radius_bounds_only_what_has_no_norm(mamba):
    found, plain = ssm.verify(mamba, input_radius=2.0), ssm.verify(mamba)
    assert verdicts(found["net.0.mixer"])["bounded_state"] == "proved"
    for one, other in zip(found["net.1.mixer"], plain["net.1.mixer"], strict=True):
        assert numbers(one) == numbers(other)


def test_path_state_dict_and_module_agree(tmp_path):
    torch.manual_seed(0)
    block = torch.nn.Module()
    block.norm, block.mixer = torch.nn.LayerNorm(4), Mamba(4, 6, 3)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({name: x.numpy() for name, x in block.state_dict().items()}, path)
    with torch.inference_mode():  # as models are evaluated
        found = [ssm.verify(block, dtypes=["bf16"])]
    with torch.no_grad():
        found += [ssm.verify(source, dtypes=["bf16"]) for source in (path, str(path), block.state_dict(), block)]
    for other in found[1:]:
        assert {name: [numbers(c) for c in some] for name, some in other.items()} == {
            name: [numbers(c) for c in some] for name, some in found[0].items()
        }
    assert by_property(found[0]["mixer"])["bounded_output"].verdict == "proved"


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_every_family_is_answered(family):
    for radius in (None, 2.0):
        (certificates,) = ssm.verify(stored(trained(family)), input_radius=radius).values()
        found = verdicts(certificates)
        assert tuple(found) == (*AS_DEFINED, *EXECUTED)
        assert found["non_expansive"] == "proved" or family == "s4"
        assert found["asymptotic_stability"] == "proved" or radius is None
        assert all(c.reason for c in certificates if c.verdict == "undecided")


def test_what_a_complex_state_needs_is_said():
    rng = np.random.default_rng(0)
    shapes = {"a_imag_param": 4, "a_param": 4, "a_gate.w": (2, 4, 2), "a_gate.b": (2, 2), "input_gate.w": (2, 4, 2), "input_gate.b": (2, 2)}
    found = ssm.verify({name: rng.standard_normal(shape) for name, shape in shapes.items()}, input_radius=1.0)
    assert set(verdicts(found[""]).values()) == {"undecided"}
    assert "complex state" in found[""][0].reason


# damage


@pytest.mark.parametrize("family", EVERY_FAMILY)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_none_make_a_layer_invalid(family, value):
    layer = trained(family)
    for name, x in layer.params.items():
        tensors = stored(layer, **{name.replace(".", "_"): entry((0,) * x.ndim, value)})
        (certificates,) = ssm.verify(tensors).values()
        assert set(verdicts(certificates).values()) == {"invalid"}, name
        assert tuple(verdicts(certificates)) == (*AS_DEFINED, *EXECUTED)
        assert certificates[0].reason


def test_a_truncated_file_makes_its_last_layer_invalid(tmp_path, mamba):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(mamba, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(CheckpointError):
        ssm.verify(path)


def test_one_bad_layer_does_not_hide_the_others(mamba):
    mamba["net.0.mixer.A_log"] = np.full_like(mamba["net.0.mixer.A_log"], np.nan)
    found = ssm.verify(mamba)
    assert set(verdicts(found["net.0.mixer"]).values()) == {"invalid"}
    assert verdicts(found["net.1.mixer"])["bounded_state"] == "proved"


def test_a_layer_that_the_file_does_not_tell_enough_about_is_undecided(mamba):
    """Another activation is no damage, but no theorem here knows it either."""
    with pytest.raises(ValueError, match="hidden_act is 'gelu'"):
        ssm.load(mamba, config={"hidden_act": "gelu"})
    found = ssm.verify(mamba, config={"hidden_act": "gelu"})
    assert {verdict for some in found.values() for verdict in verdicts(some).values()} == {"undecided"}
    assert "hidden_act is 'gelu'" in found["net.0.mixer"][0].reason


def test_what_only_looks_like_a_layer_is_named(mamba):
    del mamba["net.0.mixer.dt_proj.bias"]
    found = ssm.verify(mamba)
    assert list(found) == ["net.1.mixer"]
    (problem,) = found.unverified
    assert "net.0.mixer" in problem
    assert "dt_proj.bias" in problem
    assert problem in found.problems


def test_nothing_is_unverified_in_a_whole_checkpoint(mamba):
    found = ssm.verify(mamba)
    assert found.unverified == ()
    assert found.description


def test_a_missing_file_is_named(tmp_path, mamba):
    names = list(mamba)
    first = [name for name in names if ".0." in name]
    safetensors.numpy.save_file({name: mamba[name] for name in first}, tmp_path / "model-00001-of-00002.safetensors")
    where = {name: f"model-0000{1 if name in first else 2}-of-00002.safetensors" for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    found = ssm.verify(tmp_path)
    assert list(found) == ["net.0.mixer"]
    assert found.unverified
    assert all(problem.startswith("missing") for problem in found.unverified)


# options


def test_one_layer_alone(mamba):
    assert list(verified(mamba, layer="net.1.mixer")) == ["net.1.mixer"]
    assert list(verified(mamba, layer="net.1")) == ["net.1.mixer"]
    with pytest.raises(KeyError, match=r"no layer 'net.2'; there are 'net.0.mixer', 'net.1.mixer'"):
        verified(mamba, layer="net.2")


def test_progress_counts_layers(mamba):
    seen = []
    verified(mamba, progress=lambda done, count: seen.append((done, count)), dtypes=())
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dtypes": ["fp64"]}, ValueError, "dtypes must be"),
        ({"effort": "hard"}, ValueError, "effort must be one of fast, tight, witness"),
        ({"hinf_below": -1.0}, ValueError, "hinf_below must be a positive number"),
        ({"input_radius": 0.0}, ValueError, "input_radius must be a positive number"),
        ({"input_radius": np.inf}, ValueError, "input_radius must be a positive number"),
        (
            {"norm": {"net.7": RMSNorm(weight=np.ones(4))}},
            ValueError,
            "norm names layers that there are not: 'net.7'; there are 'net.0.mixer'",
        ),
    ],
)
def test_options_are_refused_before_any_work(mamba, monkeypatch, options, error, message):
    from ssm_analysis.checkpoint.loading import FoundLayers

    monkeypatch.setattr(FoundLayers, "read", lambda self, group: pytest.fail("read a layer first"))
    with pytest.raises(error, match=message):
        ssm.verify(mamba, **options)


def test_a_norm_of_another_width_is_refused(mamba):
    with pytest.raises(ValueError, match=r"the weight of the norm must have the shape \(4,\)"):
        ssm.verify(mamba, norm=RMSNorm(weight=np.ones(5)))


def test_layers_and_systems_go_to_the_same_verify(mamba):
    layers = ssm.load(mamba)
    norm = LayerNorm(weight=np.ones(4), bias=np.ones(4))
    found = ssm.verify(dict(layers), norm=norm, dtypes=())
    assert all(isinstance(c, Certificate) for some in found.values() for c in some)
    assert verdicts(ssm.verify(layers["net.0.mixer"], norm=norm, dtypes=())) == verdicts(found["net.0.mixer"])
    sys = ssm.FAMILIES["lru"].init(d_model=2, d_state=4).system()
    assert set(verdicts(ssm.verify(sys, dtypes=())).values()) == {"proved"}


def test_both_directions_stand_behind_one_norm():
    torch.manual_seed(0)
    block = torch.nn.Module()
    block.norm, block.mixer = torch.nn.LayerNorm(4), BiMamba(4, 6, 3)
    tensors = {name: x.detach().numpy() for name, x in block.state_dict().items()}
    found = ssm.verify(tensors, assume={"conv_padding": "same"}, dtypes=())
    assert list(found) == ["mixer", "mixer:reverse"]
    assert all(verdicts(some)["bounded_state"] == "proved" for some in found.values())
    del tensors["norm.weight"]
    norm = LayerNorm(weight=np.ones(4), bias=np.zeros(4))
    for name, proved in (("mixer", ["proved", "proved"]), ("mixer:reverse", ["undecided", "proved"])):
        found = ssm.verify(tensors, assume={"conv_padding": "same"}, norm={name: norm}, dtypes=())
        assert [verdicts(some)["bounded_state"] for some in found.values()] == proved


# refutations


@pytest.mark.parametrize("name", [*S4D_CASES, *S4_CASES])
def test_verdicts_are_those_of_the_eigenvalues(name):
    """Every way in which S4 and S4D are stored, stable and not; numpy's eigenvalues decide with 1e-6 to spare."""
    case = {**S4D_CASES, **S4_CASES}[name]()
    layers = ssm.load(case.tensors, assume=case.assume)
    found = ssm.verify(case.tensors, assume=case.assume, dtypes=())
    for layer_name, layer in layers.items():
        sys = layer.system()
        size = np.max(np.abs(np.linalg.eigvals(sys.A) if isinstance(sys, ssm.StateSpace) else sys.poles()))
        verdict = verdicts(found[layer_name])["asymptotic_stability"]
        if abs(size - 1) > 1e-6:
            assert verdict == ("proved" if size < 1 else "refuted")


def test_an_unstable_checkpoint_is_refuted_and_replays():
    layer = trained("s5")
    (certificates,) = ssm.verify(stored(layer, Lambda_re=entry(1, 3e-9))).values()
    found = by_property(certificates)
    assert found["asymptotic_stability"].verdict == "refuted"
    assert found["asymptotic_stability"].witness.index == (1,)
    replayed = found["asymptotic_stability"].witness.replay()
    assert replayed.violated
    assert replayed.measured == pytest.approx(3e-9)


def test_s4_in_the_layout_of_the_family():
    layer = trained("s4")
    assert layer.params.keys() >= s4.SHAPES.keys() - set(s4.OPTIONAL)
    (certificates,) = ssm.verify(stored(layer), dtypes=()).values()
    assert verdicts(certificates)["asymptotic_stability"] == "proved"
    assert NAME in certificates[0].subject


# the documentation


@pytest.fixture(scope="module")
def write_theorems():
    spec = importlib.util.spec_from_file_location("write_theorems", ROOT / "docs" / "write_theorems.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_theorems_in_the_documentation_are_those_of_the_code(write_theorems):
    text = write_theorems.PAGE.read_text(encoding="utf-8")
    assert text == write_theorems.page(text), "run python docs/write_theorems.py"
    for key, theorem in THEOREMS.items():
        assert f"\n### {key}: {theorem.title}\n" in text
    with pytest.raises(ValueError, match=r"must hold the line"):
        write_theorems.page("no mark")


def test_the_documentation_names_every_property_and_only_theorems_that_there_are(write_theorems):
    text = write_theorems.PAGE.read_text(encoding="utf-8")
    introduction = text[: text.index(write_theorems.MARK)]
    wanted = Question(dtypes=("fp32",), hinf_below=1.0, l1_below=1.0).properties
    names = {name.replace("fp32", "<dtype>") for name in (*wanted, *composed(("fp32",)))}
    assert names <= set(re.findall(r"`([a-z0-9_]+(?::<dtype>)?)`", introduction))
    table = introduction[introduction.index("| layers | stability |") :].split("\n\n")[0]
    cells = [cell.strip() for row in table.splitlines()[2:] for cell in row.strip("|").split("|")[1:]]
    known = {word for cell in cells for word in re.split(r", |; | for .*|^undecided.*", cell) if word}
    assert known <= set(THEOREMS)
    assert set(THEOREMS) - {"residual"} <= known


LABELS = {
    "s4": "S4 (DPLR)",
    "s4d": "S4D, S5",
    "s5": "S4D, S5",
    "lru": "LRU",
    "s6": "Mamba (S6)",
    "mamba2": "Mamba-2",
    "rg_lru": "RG-LRU",
}


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_the_table_of_theorems_is_true(write_theorems, family):
    label = row_of(LABELS, family, "LABELS in tests/verification/test_verification.py")
    text = write_theorems.PAGE.read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {label}") and "question" not in line]
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    (some,) = ssm.verify(stored(trained(family)), input_radius=1.0).values()
    kinds = (("stability", "expansive"), ("bounded",), ("pole_inside", "no_overflow"))
    for cell, words in zip(cells, kinds, strict=True):
        for certificate in some:
            if any(word in certificate.property for word in words) and certificate.theorem:
                assert certificate.theorem in cell


def test_the_code_in_the_documentation_runs(write_theorems, capsys, tmp_path):
    text = write_theorems.PAGE.read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, names)
    out = capsys.readouterr().out
    assert out.count("proved") >= 6
    path = tmp_path / "m.safetensors"
    tensors = {f"net.mixer.{name}": x for name, x in fresh("s6").params.items()} | {"net.norm.weight": np.ones(4)}
    safetensors.numpy.save_file(tensors, path)
    main(["verify", str(path), "--dtype", "bf16", "--json"])
    found = list(names["replay"](json.loads(capsys.readouterr().out), path))
    assert [(name, what, replayed.violated) for name, what, replayed in found] == [("net.mixer", "pole_inside:bf16", True)]


def test_the_counterexample_in_the_documentation():
    one, two = np.asarray([[0.5, 2], [0, 0.5]]), np.asarray([[0.5, 0], [2, 0.5]])
    for A in (one, two):
        np.testing.assert_allclose(np.linalg.eigvals(A), 0.5)
    np.testing.assert_allclose(np.max(np.abs(np.linalg.eigvals(one @ two))), (9 + np.sqrt(80)) / 4)
    pole = np.exp(-np.exp(-18.0))
    assert pole < 1
    assert np.float32(pole) == 1


def test_the_commands_of_the_workflow_are_understood(tmp_path, capsys):
    """The lines of the gate, with a checkpoint of ours."""
    text = (ROOT / "examples" / "verify_workflow.yml").read_text()
    (command,) = re.findall(r"ssm-analysis (verify .*?) > certificates.json", text.replace("\\\n", " "))
    path = tmp_path / "m.safetensors"
    tensors = {f"net.mixer.{name}": x for name, x in fresh("s6").params.items()} | {"net.norm.weight": np.ones(4)}
    safetensors.numpy.save_file(tensors, path)
    argv = [str(path) if word == '"$CHECKPOINT"' else word for word in command.split()]
    assert main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert [c["property"] for c in found["layers"]["net.mixer"]] == ["uniform_exponential_stability", "bounded_state", "no_overflow:bf16"]
