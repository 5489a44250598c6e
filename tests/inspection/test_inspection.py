"""Rows: numbers against analyses called directly, and checkpoints of which a part cannot be read."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

import ssm_analysis as ssm
from ssm_analysis.cli.tables.inspection import assumption_lines, finding_lines, inspection_table
from ssm_analysis.families.s4 import model as s4
from tests.support.every_family import EVERY_FAMILY, SELECTIVE_FAMILIES, TIME_INVARIANT_FAMILIES, row_of
from tests.support.stored_layers import NAME, entry, fresh, one_row, printed, sizes_of, stored, trained

SILENT = {
    "s6": {"conv1d.weight": 0, "conv1d.bias": 0},
    "mamba2": {"in_proj.weight": 0},
    "rg_lru": {"a_gate.w": 0},
}
"""Parameters whose zeros keep the input of a selective layer from its poles."""


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_a_trained_layer_has_no_findings(family):
    row = one_row(stored(trained(family)))
    assert row["findings"] == []
    assert (row["name"], row["family"], row["dtype"].split("/")[-1]) == (NAME, family, "float64")


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_rows_are_plain_data(family):
    row = one_row(stored(fresh(family)))
    assert json.loads(json.dumps(row)) == row


@pytest.mark.parametrize("family", TIME_INVARIANT_FAMILIES)
def test_numbers_are_those_of_the_analyses(family):
    layer = trained(family)
    row, sys = one_row(stored(layer)), layer.system()
    poles = np.linalg.eigvals(sys.to_dense().A)
    np.testing.assert_allclose(row["abs_max"], np.max(np.abs(poles)), rtol=1e-9)
    np.testing.assert_allclose(row["abs_min"], np.min(np.abs(poles)), rtol=1e-9)
    np.testing.assert_allclose(row["margin"], 1 - np.max(np.abs(poles)), rtol=1e-8)
    np.testing.assert_allclose(row["time_constant_max"], -1 / np.log(np.max(np.abs(poles))), rtol=1e-8)
    assert row["abs_min"] <= row["abs_median"] <= row["abs_max"]
    assert row["time_constant_median"] <= row["time_constant_max"]
    assert (row["systems"], row["states"]) == (int(np.prod(sys.batch_shape, dtype=int)), sys.nstates)
    assert (row["inputs"], row["outputs"]) == (sys.ninputs, sys.noutputs)
    np.testing.assert_allclose(row["hinf_norm"], np.max(ssm.hinf_norm(sys)), rtol=1e-9)
    np.testing.assert_allclose(row["horizon"], np.median(ssm.horizon(sys)), rtol=0)
    np.testing.assert_allclose(row["effective_order"], np.median(ssm.effective_order(sys)), rtol=0)


@pytest.mark.parametrize("family", SELECTIVE_FAMILIES)
def test_of_selective_layers_the_eigenvalues_at_the_bias(family):
    """A layer all of whose maps from the input are 0 has them along every input."""
    layer = trained(family)
    silent = row_of(SILENT, family, "SILENT in tests/inspection/test_inspection.py")
    quiet = replace(layer, params={name: x * silent.get(name, 1) for name, x in layer.params.items()})
    u = np.random.default_rng(0).standard_normal((5, sizes_of(family)["d_model"]))
    log_poles = quiet.along(u).log_poles[-1]
    row = one_row(stored(layer))
    np.testing.assert_allclose(row["abs_max"], np.exp(np.max(log_poles)), rtol=1e-12)
    np.testing.assert_allclose(row["abs_min"], np.exp(np.min(log_poles)), rtol=1e-12)
    assert row["poles_of"] == "A with the step of the bias alone"
    assert row["horizon"] is row["effective_order"] is row["hinf_norm"] is None


@pytest.mark.parametrize(("slowest", "verdict"), [(99.9, "short"), (100.1, "medium"), (999.9, "medium"), (1000.1, "long")])
def test_verdict(slowest, verdict):
    row = one_row(stored(trained("lru"), nu_log=np.full(8, -np.log(slowest))))
    np.testing.assert_allclose(row["time_constant_max"], slowest, rtol=1e-12)
    assert row["memory"] == verdict


def test_norms_can_be_left_out():
    source = stored(trained("lru"))
    with_norms, without = one_row(source), one_row(source, norms=False)
    assert without == {**with_norms, "horizon": None, "effective_order": None, "hinf_norm": None}


def test_a_norm_that_takes_minutes_is_left_out_and_said_so(monkeypatch):
    source = stored(trained("lru"))
    with_norm = one_row(source)
    monkeypatch.setattr("ssm_analysis.inspection.rows.PATIENCE", 1e-6)
    row = one_row(source)
    assert row == {**with_norm, "hinf_norm": None, "notes": [row["notes"][0]]}
    assert "H-infinity norm of so many inputs and outputs takes minutes and was left out" in row["notes"][0]
    assert one_row(source, norms=False)["notes"] == []
    assert one_row(stored(trained("s4d")))["hinf_norm"] is not None, "one input and output are quick"


def test_layers_come_in_depth_order_with_progress():
    layer, seen = trained("lru"), []
    source = {f"layers.{i}.{name}": x for i in (10, 2) for name, x in layer.params.items()}
    rows = ssm.inspect(source, progress=lambda done, count: seen.append((done, count)))
    assert [row["name"] for row in rows] == ["layers.2", "layers.10"]
    assert seen == [(1, 2), (2, 2)]


def test_assumptions_say_who_said_so():
    source = stored(trained("s6"))
    assumed = one_row(source, assume={"dt_offset": 0.5})["assumptions"]
    assert assumed["dt_offset"] == {"value": 0.5, "source": "caller"}
    assert assumed["conv_padding"] == {"value": "causal", "source": "original default"}


def test_processes_give_the_rows_of_the_plain_loop(tmp_path):
    """With layouts of one's own too, which are sent to them."""
    path = tmp_path / "model.safetensors"
    tensors = {f"layers.{i}.{name}": x for i in range(3) for name, x in trained("lru").params.items()}
    tensors |= {name.replace("nu_log", "decay"): np.array(x) for name, x in stored(trained("lru")).items()}
    tensors["layers.1.nu_log"] = np.full(8, np.nan)
    safetensors.numpy.save_file(tensors, path)
    own = [ssm.FAMILIES["lru"].layouts[0].with_names({"nu_log": "decay"})]
    alone = ssm.inspect(path, layouts=own)
    with ProcessPoolExecutor(2) as executor:
        together = ssm.inspect(path, layouts=own, executor=executor)
    assert list(together) == list(alone)
    assert [row["name"] for row in alone] == [NAME, "layers.0", "layers.1", "layers.2"]
    assert together.description == alone.description


def test_an_executor_takes_paths_alone():
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(TypeError, match="with an executor source must be a path, which every process opens itself, got dict"),
    ):
        ssm.inspect(stored(trained("lru")), executor=executor)


# what cannot be read


def test_a_damaged_layer_has_its_own_row():
    layer = trained("lru")
    good, bad = stored(replace(layer, name="layers.0")), stored(replace(layer, name="layers.1"), B_re=entry((0, 0), np.nan))
    rows = ssm.inspect({**good, **bad})
    assert rows[0]["findings"] == []
    assert "error" not in rows[0]
    assert "B_re" in rows[1]["error"]
    assert [(finding["code"], finding["message"]) for finding in rows[1]["findings"]] == [
        ("not-finite", "B_re: 1 of 24 entries are NaN or infinite")
    ]
    table = printed(inspection_table(rows))
    assert "could not be read" in table
    assert any("B_re: 1 of 24" in line for line in finding_lines(rows))


def test_a_truncated_file(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(stored(trained("lru")), path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ssm.CheckpointError, match=r"model.safetensors: is not a valid safetensors file, or is cut off"):
        ssm.inspect(path)


def test_a_damaged_tensor_leaves_the_other_layers(tmp_path):
    """Zip archives check the sum of every tensor."""
    path = tmp_path / "model.npz"
    layers = [replace(trained("lru"), name=f"layers.{i}") for i in range(2)]
    np.savez(path, **stored(layers[0]), **stored(layers[1], D=np.full(3, 12345.0)))
    path.write_bytes(path.read_bytes().replace(np.full(3, 12345.0).tobytes(), np.full(3, 54321.0).tobytes()))
    rows = ssm.inspect(path)
    assert [row["name"] for row in rows] == ["layers.0"]
    assert any("layers.1.D" in problem and "is damaged" in problem for problem in rows.problems)


def test_a_missing_shard(tmp_path):
    whole = {f"layers.{i}.{name}": np.array(x) for i in range(2) for name, x in trained("lru").params.items()}
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, file in enumerate(names):
        safetensors.numpy.save_file({name: x for name, x in whole.items() if f".{i}." in name}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: names[int(".1." in name)] for name in whole}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert len(ssm.inspect(tmp_path)) == 2
    (tmp_path / names[1]).unlink()
    rows = ssm.inspect(tmp_path)
    assert [row["name"] for row in rows] == ["layers.0"]
    assert any(names[1] in problem for problem in rows.problems)


def test_what_is_nearly_a_layer_is_told():
    source = stored(trained("lru"))
    del source[f"{NAME}.gamma_log"]
    rows = ssm.inspect({**source, **stored(replace(trained("lru"), name="other"))})
    assert len(rows) == 1
    assert any("looks like" in problem and "gamma_log" in problem for problem in rows.problems)


def test_tables_show_every_layer_and_who_assumed_what():
    rows = ssm.inspect({**stored(trained("lru")), **stored(replace(fresh("s6"), name="other"))})
    text = printed(inspection_table(rows))
    assert NAME in text
    assert "other" in text
    assert "2 layers" in text
    (line,) = assumption_lines(rows)
    assert line.startswith("other, by the original default: ")


def test_shapes_of_s4_are_those_of_the_family():
    """The helper reads the same tensors as the family."""
    assert set(ssm.FAMILIES["s4"].layouts[-1].shapes) == set(s4.SHAPES)
