"""Findings, each by a checkpoint that was built to have it; layers that look trained have none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

from ssm_analysis.cli.tables.inspection import finding_lines
from tests.support.stored_layers import NAME, entry, fresh, one_row, stored, trained


def codes(source, **how):
    return {finding["code"] for finding in one_row(source, **how)["findings"]}


def close_to_one(x):
    return np.log(np.arange(1.0, x.shape[-1] + 1)) + 0 * x


CASES = {
    "absurd": ("lru", {"B_re": entry((0, 0), 1e7)}, "B_re reaches 1e+07"),
    "all-zero": ("lru", {"C_im": lambda x: 0 * x}, "C_im is 0 everywhere"),
    "absurd-rate": ("s6", {"A_log": entry((0, 0), -30.0)}, "A_log reaches 30 in size"),
    "absurd-step": ("s4d", {"inv_dt": entry((1, 0), np.log(1e-8))}, "steps lie between 1e-08"),
    "unstable": ("s5", {"Lambda_re": entry(2, 0.1)}, "1 eigenvalue lies outside the unit circle; the fastest grows e-fold every "),
    "on-circle": ("s5", {"Lambda_re": entry(2, 0.0)}, "1 eigenvalue lies on the unit circle"),
    "aliased": ("s4d", {"A_imag": entry((0, 0), 1e6)}, "3 of 12 modes turn by more than pi per token"),
    "fresh-A_log": ("s6", {"A_log": close_to_one}, r"A_log is log(1..d_state) in every channel"),
    "fresh-dt_proj.bias": ("s6", {"dt_proj_bias": lambda x: 0 * x + 0.25}, "dt_proj.bias is 0.25 everywhere"),
    "fresh-D": ("s6", {"D": lambda x: 0 * x + 1}, "D is 1 everywhere, as at initialization"),
    "fresh-dt_bias": ("mamba2", {"dt_bias": lambda x: 0 * x + 1}, "1 everywhere, what transformers puts there before it loads"),
    "fresh-Lambda_re": ("s5", {"Lambda_re": lambda x: 0 * x - 0.5}, "-1/2 everywhere"),
    "fresh-gamma_log": ("lru", {"nu_log": fresh("lru").params["nu_log"], "gamma_log": fresh("lru").params["gamma_log"]}, "log sqrt"),
    "fresh-A_imag": ("s4d", {"A_imag": lambda x: np.pi * np.arange(4.0) + 0 * x}, "that of S4D-Lin as at initialization"),
}


@pytest.mark.parametrize("code", CASES)
def test_finding(code):
    family, changes, words = CASES[code]
    row = one_row(stored(trained(family), **changes))
    found = {finding["code"]: finding for finding in row["findings"]}
    assert words in found[code]["message"]
    assert found[code]["layer"] == NAME
    assert set(found) == {code}, "nothing else is wrong with it"


@pytest.mark.parametrize(("turn", "aliased"), [(0.999, set()), (1.001, {"aliased"})])
def test_aliasing_begins_at_half_a_turn_per_token(turn, aliased):
    for family, step in (("s4d", "inv_dt"), ("s5", "log_step")):
        source = stored(trained(family))
        frequency, delta = ("A_imag", source[f"{NAME}.inv_dt"].max()) if family == "s4d" else ("Lambda_im", source[f"{NAME}.{step}"][2])
        where = (0, 1) if family == "s4d" else 2
        assert codes(stored(trained(family), **{frequency: entry(where, turn * np.pi / np.exp(delta))})) == aliased


def test_bilinear_warps_and_does_not_alias():
    source = stored(trained("s5"), Lambda_im=entry(2, 1e6))
    assert codes(source) == {"aliased"}
    assert codes(source, assume={"discretization": "bilinear"}) == set()


@pytest.mark.parametrize("code", CASES)
def test_the_finding_is_in_the_lines_for_people(code):
    family, changes, words = CASES[code]
    (line,) = finding_lines([one_row(stored(trained(family), **changes))])
    assert words in line
    assert line.startswith(("error: ", "warning: ", "note: "))


@pytest.mark.parametrize("rounded", [np.float16, np.float32])
def test_fresh_rates_are_found_in_fewer_bits(rounded):
    source = stored(trained("s6"), A_log=lambda x: close_to_one(x).astype(rounded))
    assert codes(source) == {"fresh-A_log"}


def test_one_channel_that_moved_is_not_fresh():
    assert codes(stored(trained("s6"), A_log=lambda x: entry((0, 1), 0.75)(close_to_one(x)))) == set()


@pytest.mark.parametrize("measure", ["legs", "fout"])
def test_hippo_is_recognized(measure):
    A = {name: fresh("s4", measure=measure).params[name] for name in ("A_real", "A_imag", "B", "P")}
    found = codes(stored(fresh("s4", measure=measure), **A))
    assert found == {"fresh-A"}


@pytest.mark.parametrize(("init", "title"), [("lin", "S4D-Lin"), ("inv", "S4D-Inv"), ("legs", "S4D-LegS")])
def test_initializations_of_s4d_are_told_apart(init, title):
    (finding,) = one_row(stored(fresh("s4d", init=init)))["findings"]
    assert finding["severity"] == "note"
    assert finding["message"].startswith(f"A_imag is that of {title} as at initialization")


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("s4", {"C": lambda x: x * np.array([1, 0, 1])[:, None]}, "1 of 3 channels carry nothing: C is 0"),
        ("s4d", {"C": lambda x: x * np.array([0, 0, 1])[:, None]}, "2 of 3 channels carry nothing: C is 0"),
        ("s5", {"B": entry(1, 0.0)}, "1 of 4 states carry nothing: all weights in or out are 0"),
        ("lru", {"C_re": entry((slice(None), 5), 0.0), "C_im": entry((slice(None), 5), 0.0)}, "1 of 8 states"),
        ("s6", {"conv1d_weight": entry(3, 0.0)}, "1 of 8 channels carry nothing: the taps of the convolution are 0"),
    ],
)
def test_dead_channels(family, changes, words):
    (finding,) = one_row(stored(trained(family), **changes))["findings"]
    assert finding["code"] == "dead"
    assert words in finding["message"]


def test_clamped_steps():
    source = stored(trained("mamba2"), dt_bias=entry(0, 5.0))
    assert codes(source) == set()
    row = one_row(source, config={"time_step_limit": [0.0, 1.0]})
    assert [finding["code"] for finding in row["findings"]] == ["clamped-step"]
    assert "the steps of 1 of 4 heads lie outside their clamp [0, 1]" in row["findings"][0]["message"]


def test_a_caller_against_the_file(tmp_path):
    safetensors.numpy.save_file(stored(trained("s6")), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"conv_padding": "same"}))
    assert codes(tmp_path) == set()
    (finding,) = one_row(tmp_path, assume={"conv_padding": "causal"})["findings"]
    assert (finding["code"], finding["severity"]) == ("conflict", "warning")
    assert finding["message"] == "conv_padding is taken to be 'causal' as you say, though the file says 'same'"


def test_a_file_that_contradicts_itself(tmp_path):
    safetensors.numpy.save_file(stored(trained("s6")), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"encoder": {"conv_padding": "same"}, "decoder": {"conv_padding": "causal"}}))
    (finding,) = one_row(tmp_path)["findings"]
    assert finding["code"] == "ambiguous"
    assert "in different places; the default of the original code, 'causal', is taken" in finding["message"]


def test_an_option_that_nothing_tells_is_the_default_of_the_family():
    """Layouts of one's own need not repeat them."""
    bare = replace(trained("s4d"), assumptions={})
    np.testing.assert_allclose(one_row(stored(bare))["abs_max"], np.max(np.abs(bare.system().poles())), rtol=1e-12)
