"""``ssm-analysis inspect`` and ``export``: what they print is what the functions return; wrong usage says what is wrong and ends with 2."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
import scipy.io

import ssm_analysis as ssm
from ssm_analysis.cli import main
from tests.support.stored_layers import entry, fresh, stored, trained


@pytest.fixture
def model(tmp_path):
    """Two layers, the second of which depends on its input and is fresh."""
    path = tmp_path / "model.safetensors"
    second = stored(replace(fresh("s6"), name="blocks.1.mixer"))
    safetensors.numpy.save_file(stored(replace(trained("lru"), name="blocks.0.mixer")) | second, path)
    return path


@pytest.fixture
def run(capsys):
    """Exit status, output and complaints of a command."""

    def command(*words):
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def plain(x):
    """As JSON has it."""
    return json.loads(json.dumps(x))


def test_table(run, model):
    status, out, _ = run("inspect", model)
    assert status == 0
    for words in ("blocks.0.mixer", "lru", "1 × 8", "s6*", "8 × 3", "2 layers", "32 eigenvalues"):
        assert words in out
    assert "warning: blocks.1.mixer: A_log is log(1..d_state) in every channel" in out
    assert "blocks.1.mixer, by the original default: " in out


def test_names_from_files_do_not_steer_the_terminal(run, tmp_path):
    path = tmp_path / "model.npz"
    np.savez(
        path, **stored(replace(fresh("lru"), name="a\x1b[2J\rb")), **stored(replace(trained("lru"), name="c\x1b[2J"), D=entry(0, np.nan))
    )
    for words in ([], ["--layer", "a\x1b[2J\rb"], ["--against", path]):
        status, out, _ = run("inspect", path, *words)
        assert status == 0
        assert "\x1b" not in out
        assert "\r" not in out
        assert "a\\x1b[2J\\rb" in out


def test_json(run, model):
    status, out, _ = run("inspect", model, "--json")
    data, rows = json.loads(out), ssm.inspect(model)
    assert status == 0
    assert data["layers"] == plain(list(rows))
    assert (data["path"], data["container"], data["problems"]) == (str(model), rows.description, [])


def test_json_has_no_infinity(run, tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(stored(trained("lru"), nu_log=np.full(8, -800.0)), path)  # rates that underflow: |lambda| is 1
    _, out, _ = run("inspect", path, "--json")
    assert "Infinity" not in out
    assert json.loads(out)["layers"][0]["time_constant_max"] is None
    assert json.loads(out)["layers"][0]["memory"] == "unstable"


def test_csv(run, model):
    status, out, _ = run("inspect", model, "--csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert status == 0
    assert [row["name"] for row in rows] == ["blocks.0.mixer", "blocks.1.mixer"]
    assert float(rows[0]["abs_max"]) == ssm.inspect(model)[0]["abs_max"]
    assert "dt_offset=0.0 (original default)" in rows[1]["assumptions"]
    assert "A_log is log(1..d_state)" in rows[1]["findings"]


def test_one_layer(run, model):
    status, out, _ = run("inspect", model, "--layer", "blocks.0.mixer")
    assert status == 0
    for words in ("blocks.0.mixer: slowest modes", "What lasts longer, in %", "Highest peaks of the gain", "Kept in fewer bits"):
        assert words in out
    _, out, _ = run("inspect", model, "--layer", "blocks.0", "--json")  # a beginning that no other layer shares
    assert json.loads(out) == plain(ssm.details(ssm.load(model)["blocks.0.mixer"]))
    _, out, _ = run("inspect", model, "--layer", "blocks.1", "--channel", 3, "--json")
    assert json.loads(out)["channel"] == 3


def test_two_checkpoints(run, model, tmp_path):
    other = tmp_path / "other.safetensors"
    tensors = safetensors.numpy.load_file(model)
    tensors["blocks.0.mixer.D"] = 2 * tensors["blocks.0.mixer.D"]
    safetensors.numpy.save_file(tensors, other)
    status, out, _ = run("inspect", model, "--against", other)
    assert status == 0
    assert "D 0.5" in out
    assert "warning: blocks.0.mixer: the same in both, though others moved: nu_log" in out
    assert "note: blocks.1.mixer: every tensor is the same in both" in out
    _, out, _ = run("inspect", model, "--against", other, "--json")
    assert json.loads(out)["layers"] == plain(ssm.compare(model, other))


def test_two_checkpoints_one_of_them_damaged(run, model, tmp_path):
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(stored(replace(trained("lru"), name="blocks.0.mixer"), D=entry(0, np.nan)), other)
    status, out, _ = run("inspect", model, "--against", other)
    assert status == 0
    assert "error: blocks.0.mixer: " in out


def test_assumptions_and_configuration(run, model, tmp_path):
    _, out, _ = run("inspect", model, "--assume", "dt_offset=0.25", "--assume", "conv_padding=same", "--json")
    assumed = json.loads(out)["layers"][1]["assumptions"]
    assert assumed["dt_offset"] == {"value": 0.25, "source": "caller"}
    assert assumed["conv_padding"] == {"value": "same", "source": "caller"}
    config = tmp_path / "other.json"
    config.write_text('{"conv_padding": "same"}')
    _, out, _ = run("inspect", model, "--config", config, "--json")
    assert json.loads(out)["layers"][1]["assumptions"]["conv_padding"]["value"] == "same"


def test_one_family_and_no_norms(run, model):
    _, out, _ = run("inspect", model, "--family", "lru", "--no-norms", "--json")
    (row,) = json.loads(out)["layers"]
    assert (row["family"], row["hinf_norm"]) == ("lru", None)


def test_a_damaged_layer_does_not_hide_the_others(run, model):
    tensors = safetensors.numpy.load_file(model)
    tensors["blocks.0.mixer.D"] = np.full(3, np.nan)
    safetensors.numpy.save_file(tensors, model)
    status, out, _ = run("inspect", model)
    assert status == 0
    assert "could not be read" in out
    assert "s6*" in out
    assert "error: blocks.0.mixer: D: 3 of 3 entries are NaN or infinite" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.safetensors"], "nowhere.safetensors: no such file or folder"),
        (["MODEL", "--layer", "blocks"], "layer 'blocks' is each of 2 of 'blocks.0.mixer', 'blocks.1.mixer'"),
        (["MODEL", "--layer", "other"], "layer 'other' is none of 'blocks.0.mixer'"),
        (["MODEL", "--layer", "blocks.0:reverse"], "has one direction only"),
        (["MODEL", "--layer", "blocks.1", "--channel", "8"], "channel must lie between 0 and 7, got 8"),
        (["MODEL", "--family", "s7"], "unknown family 's7'; there are s4, s4d"),
        (["MODEL", "--family", "s5"], "no recurrent layer was recognized"),
        (["MODEL", "--assume", "dt_offset"], "--assume must be NAME=VALUE"),
        (["MODEL", "--assume", "disc=zoh"], "no layer that was found can use 'disc'"),
        (["MODEL", "--assume", "conv_padding=maybe"], "conv_padding must be one of 'causal', 'same', got 'maybe'"),
        (["MODEL", "--config", "MODEL"], "--config must be a JSON file"),
        (["MODEL", "--csv", "--json"], "--csv prints rows alone"),
        (["MODEL", "--against", "nowhere"], "nowhere: no such file or folder"),
        (["MODEL", "--channel", "1"], "--channel needs --layer"),
        (["MODEL", "--layer", "blocks.0", "--against", "MODEL"], "--layer or --against"),
    ],
)
def test_wrong_usage(run, model, words, message):
    status, out, err = run("inspect", *(model if word == "MODEL" else word for word in words))
    assert status == 2
    assert err.startswith("ssm-analysis: ")
    assert message in err
    assert out == ""


# export


def test_export_npz(run, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("export", model, "--layer", "blocks.0", "--to", "npz")
    assert (status, out) == (0, "written: blocks.0.mixer.npz\n")
    with np.load("blocks.0.mixer.npz", allow_pickle=False) as data:
        np.testing.assert_array_equal(data["A"], ssm.matrices(ssm.load(model)["blocks.0.mixer"])["A"])


def test_export_along_an_input(run, model, tmp_path):
    u = np.random.default_rng(0).standard_normal((7, 4))
    np.save(tmp_path / "u.npy", u)
    out = tmp_path / "layer.mat"
    assert run("export", model, "--layer", "blocks.1", "--to", "mat", "--input", tmp_path / "u.npy", "--out", out)[0] == 0
    layer = ssm.load(model)["blocks.1.mixer"]
    np.testing.assert_array_equal(scipy.io.loadmat(out)["y"], ssm.matrices(layer, u=u)["y"])


def test_export_a_script(run, model, tmp_path):
    status, out, _ = run("export", model, "--layer", "blocks.0", "--to", "control-script", "--out", tmp_path / "layer.py")
    assert (status, out) == (0, f"written: {tmp_path / 'layer.py'}\nwritten: {tmp_path / 'layer.npz'}\n")


def test_no_name_of_a_layer_leads_out_of_the_folder(run, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(stored(replace(trained("lru"), name='../a"b')), path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (name,) = ssm.load(path)
    assert run("export", path, "--layer", name, "--to", "npz")[0] == 0
    assert [file.parent.name for file in tmp_path.rglob("*.npz")] == ["here"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layer", "blocks.1", "--to", "npz"], "depends on its input"),
        (["--layer", "blocks.1", "--to", "control-script"], "is time-varying"),
        (["--layer", "blocks.0", "--to", "npz", "--out", "a.mat"], "--out must end in .npz"),
        (["--layer", "blocks.0", "--to", "npz", "--out", "no/a.npz"], "--out must lie in an existing folder"),
        (["--layer", "blocks.0", "--to", "npz", "--input", "nowhere.npy"], "nowhere.npy"),
    ],
)
def test_export_wrong_usage(run, model, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    status, _, err = run("export", model, *words)
    assert status == 2
    assert message in err
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_export_wants_a_known_format(model, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(model), "--layer", "blocks.0", "--to", "csv"])
    assert "invalid choice: 'csv'" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"not numpy", b"\x93NUMPY\x01\x00"])
def test_export_along_something_else(run, model, tmp_path, content):
    (tmp_path / "u.npy").write_bytes(content)
    status, _, err = run("export", model, "--layer", "blocks.1", "--to", "npz", "--input", tmp_path / "u.npy", "--out", tmp_path / "a.npz")
    assert status == 2
    assert err.startswith("ssm-analysis: ")
