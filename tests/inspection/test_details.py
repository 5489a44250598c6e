"""Two checkpoints beside each other, one layer in depth, and fewer bits: against the analyses and closed forms."""

import json
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import ssm_analysis as ssm
from ssm_analysis.cli.tables.inspection import detail_tables
from tests.support.every_family import EVERY_FAMILY
from tests.support.stored_layers import NAME, entry, printed, stored, trained

# two checkpoints


def test_compare():
    old = trained("lru")
    new = replace(old, params={name: x * 1.5 if name == "B_re" else x for name, x in old.params.items()})
    (row,) = ssm.compare(stored(new), stored(old))
    assert row["unchanged"] == [name for name in old.params if name != "B_re"]
    np.testing.assert_allclose(row["changes"]["B_re"], 0.5, rtol=1e-12)
    assert row["largest_move"] == 0
    assert row["time_constant_max"] == row["time_constant_max_against"]
    (finding,) = row["findings"]
    assert finding["code"] == "never-moved"
    assert finding["message"].endswith(", ".join(row["unchanged"]))


def test_compare_moved_eigenvalues():
    old = trained("lru")
    new = stored(old, nu_log=lambda x: x + np.log(2), gamma_log=lambda x: x + 1)
    (row,) = ssm.compare(new, stored(old))
    np.testing.assert_allclose(row["largest_move"], 1, rtol=1e-12)  # every rate is twice what it was
    np.testing.assert_allclose(row["time_constant_max_against"] / row["time_constant_max"], 2, rtol=1e-12)


def test_compare_with_itself():
    source = stored(trained("s6"))
    (row,) = ssm.compare(source, source)
    assert [(finding["severity"], finding["code"]) for finding in row["findings"]] == [("note", "identical")]
    assert row["changes"] == {}


def test_compare_layers_that_one_lacks():
    first, second = (stored(replace(trained("lru"), name=name)) for name in ("a", "b"))
    rows = ssm.compare(first, second)
    assert [(row["name"], row["findings"][0]["code"]) for row in rows] == [("a", "only-here"), ("b", "missing-here")]
    both = ssm.compare({**first, **second}, second)
    assert [(row["name"], row["findings"][0]["code"]) for row in both] == [("a", "only-here"), ("b", "identical")]


def test_compare_other_sizes():
    other = replace(ssm.FAMILIES["lru"].init(d_model=3, d_state=6, seed=1), name=NAME)
    (row,) = ssm.compare(stored(trained("lru")), stored(other))
    found = {finding["code"]: finding["message"] for finding in row["findings"]}
    assert "nu_log" in found["other-shapes"]
    assert row["largest_move"] is None


def test_compare_a_damaged_layer_keeps_its_name():
    (row,) = ssm.compare(stored(trained("lru"), D=entry(0, np.inf)), stored(trained("lru")))
    assert row["name"] == NAME
    assert "D" in row["error"]


# one layer in depth


def test_details_against_the_analyses():
    layer = trained("s4d")
    found, sys = ssm.details(layer), layer.system()
    slow = np.min(-np.real(sys.log_poles), axis=-1)
    assert found["channel"] == np.argmin(slow)
    assert found["channels"] == 3
    one = sys[found["channel"]]
    poles = one.poles()[np.argsort(-np.abs(one.poles()))]
    np.testing.assert_allclose([mode["magnitude"] for mode in found["damping"]], np.abs(poles), rtol=1e-13)
    np.testing.assert_allclose([mode["real"] + 1j * mode["imag"] for mode in found["damping"]], poles, rtol=1e-13)
    np.testing.assert_allclose([mode["time_constant"] for mode in found["damping"]], -1 / np.log(np.abs(poles)), rtol=1e-11)
    peak = ssm.norms.resonances(one, 1)
    np.testing.assert_allclose(found["peaks"][0]["gain"], peak.gain[0], rtol=1e-9)
    np.testing.assert_allclose(found["peaks"][0]["gain"], ssm.hinf_norm(one), rtol=1e-6)
    memory = ssm.memory(sys)
    np.testing.assert_allclose([row["modes"] for row in found["memory"]], np.mean(memory.modes_beyond, axis=0), rtol=1e-12)
    np.testing.assert_allclose([row["energy"] for row in found["memory"]], np.mean(memory.energy_beyond, axis=0), rtol=1e-12)
    assert [row["lag"] for row in found["memory"]] == list(memory.lags)


@pytest.mark.parametrize(("rate", "margin"), [(1e-13, 1e-13), (0.0, 0.0), (-0.5, 1 - np.exp(0.5))])
def test_details_of_modes_near_the_circle_on_it_and_outside(rate, margin):
    """1 - |lambda| without cancellation; a pure integrator, which has no damping, is shown nevertheless."""
    params = {**trained("s5").params, "Lambda_re": np.array([-rate, -1.0, -2.0, -3.0]), "Lambda_im": np.array([0, 1.0, 2.0, 3.0])}
    layer = ssm.Layer(family="s5", name=NAME, params={**params, "log_step": np.zeros(4)})
    found = ssm.details(layer)
    assert len(found["damping"]) == 4
    np.testing.assert_allclose(found["damping"][0]["margin"], margin, rtol=1e-12)
    text = "".join(printed(table) for table in detail_tables(found))
    assert f"{margin:.2g}" in text
    assert "-0 " not in text


@pytest.mark.parametrize("family", EVERY_FAMILY)
def test_details_are_plain_data_and_tables(family):
    layer = trained(family)
    found = ssm.details(layer)
    assert json.loads(json.dumps(found)) == found
    text = "".join(printed(table) for table in detail_tables(found))
    assert NAME in text
    assert "Kept in fewer bits" in text
    assert (found["peaks"] == []) == layer.time_varying


def test_details_of_a_channel():
    layer = trained("s4d")
    assert ssm.details(layer, channel=1)["channel"] == 1
    with pytest.raises(ValueError, match="channel must lie between 0 and 2, got 3"):
        ssm.details(layer, channel=3)


def test_details_of_many_inputs_have_the_highest_peak():
    layer = trained("lru")
    found = ssm.details(layer)
    assert found["channel"] is None
    np.testing.assert_allclose(found["peaks"][0]["gain"], ssm.hinf_norm(layer.system()), rtol=1e-6)


def test_details_leave_out_a_peak_that_takes_minutes(monkeypatch):
    monkeypatch.setattr("ssm_analysis.inspection.rows.PATIENCE", 1e-6)
    assert ssm.details(trained("lru"))["peaks"] == []
    assert len(ssm.details(trained("s4d"))["peaks"]) > 0


def test_details_of_torch_parameters():
    torch = pytest.importorskip("torch")
    layer = trained("lru")
    assert ssm.details(layer.map(lambda x: torch.tensor(np.array(x), requires_grad=True))) == ssm.details(layer)


# fewer bits


EDGES = {"bfloat16": 2.0**-9, "float16": 2.0**-12, "float32": 2.0**-25}
"""Half the distance of the numbers below 1: what is nearer to 1 than this becomes 1, and the tie goes there too, since 1 is even."""


def at_margins(margins):
    """A real S4D layer whose eigenvalues are 1 - margins."""
    rate = -np.log1p(-np.asarray(margins))
    params = {"A_real": np.log(rate)[None], "B": np.ones((1, len(rate))), "C": np.ones((1, 1, len(rate)))}
    return ssm.Layer(family="s4d", params={**params, "inv_dt": np.zeros((1, 1)), "D": np.zeros((1, 1))})


@pytest.mark.parametrize(("dtype", "edge"), EDGES.items())
def test_which_eigenvalues_land_on_the_circle(dtype, edge):
    margins = edge * np.array([0.01, 0.5, 0.999, 1.001, 1.5, 4.0])
    audit = {row["kept"]: row for row in ssm.precision_audit(at_margins(margins), dtypes=[dtype])}
    kept = audit["discrete A"]
    assert (kept["on_circle"], kept["outside"], kept["eigenvalues"]) == (3, 0, 6)
    assert kept["slowest_after"] == np.inf
    assert audit["parameters"]["on_circle"] == 0
    np.testing.assert_allclose(kept["slowest_before"], 1 / -np.log1p(-margins[0]), rtol=1e-9)


def test_every_eigenvalue_above_0_998_in_bfloat16():
    layer = ssm.FAMILIES["s4d"].init(d_model=50, d_state=4, init="real", dt_min=1e-4, seed=2)
    (kept,) = [row for row in ssm.precision_audit(layer, dtypes=["bfloat16"]) if row["kept"] == "discrete A"]
    assert kept["on_circle"] == np.sum(layer.system().poles() >= 1 - 2.0**-9) > 10


def test_rounding_both_parts_of_an_eigenvalue_can_push_it_outside():
    """Counted in whole numbers: parts of bfloat16 numbers below 2 are multiples of 2^-30 here."""
    layer = ssm.FAMILIES["s4d"].init(d_model=64, d_state=32, dt_min=1e-4, dt_max=1e-2, seed=5)
    poles = layer.system().poles().reshape(-1)
    parts = [np.ldexp(np.asarray(x).astype(ml_dtypes.bfloat16).astype(float), 30).astype(int).tolist() for x in (poles.real, poles.imag)]
    excess = [a * a + b * b - 4**30 for a, b in zip(*parts, strict=True)]
    (kept,) = [row for row in ssm.precision_audit(layer, dtypes=["bfloat16"]) if row["kept"] == "discrete A"]
    assert kept["outside"] == sum(x > 0 for x in excess) > 50
    assert kept["on_circle"] == sum(x == 0 for x in excess)
    assert kept["slowest_after"] == np.inf


def test_parameters_in_bfloat16_move_rates_by_their_rounding():
    """mu = -e^x: rounding x by a relative 2^-9 at most changes the rate by e^(|x| 2^-9) at most."""
    layer = trained("lru")
    (kept,) = [row for row in ssm.precision_audit(layer, dtypes=["bfloat16"]) if row["kept"] == "parameters"]
    bound = np.expm1(np.max(np.abs(layer.params["nu_log"])) * 2.0**-8)
    assert 0 < kept["median_change"] <= kept["largest_change"] <= bound


def test_numbers_already_in_the_format_do_not_move():
    layer = trained("lru").map(lambda x: x.astype(np.float32).astype(np.float64))
    (kept,) = [row for row in ssm.precision_audit(layer, dtypes=["float32"]) if row["kept"] == "parameters"]
    assert kept["largest_change"] == 0
    assert kept["slowest_after"] == kept["slowest_before"]


def test_parameters_that_a_format_cannot_hold():
    layer = trained("lru")
    large = replace(layer, params={**layer.params, "B_re": layer.params["B_re"] + 1e5})
    kept = ssm.precision_audit(large, dtypes=["float16"])[0]
    assert kept["kept"] == "parameters"
    assert kept["not_finite"] == layer.params["B_re"].size
    assert np.isnan(kept["slowest_after"])


def test_unknown_formats():
    with pytest.raises(ValueError, match=r"dtypes must name floating-point formats, .*bfloat16.*; got 'int8'"):
        ssm.precision_audit(trained("lru"), dtypes=["int8"])


@pytest.mark.parametrize(("short", "name"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_formats_have_short_names(short, name):
    assert ssm.precision_audit(trained("lru"), dtypes=[short]) == ssm.precision_audit(trained("lru"), dtypes=[name])
