"""The poles that the biases of a selective layer give: those along any input where nothing reads it."""

import numpy as np
import pytest

from ssm_analysis import load
from tests.support.every_family import SELECTIVE_FAMILIES, row_of
from tests.support.families_table import fresh, with_options


def silenced_s6(p):
    return {"x_proj.weight": 0 * p["x_proj.weight"]}


def silenced_mamba2(p):
    rows = np.arange(len(p["in_proj.weight"])) < len(p["in_proj.weight"]) - len(p["dt_bias"])
    return {"in_proj.weight": p["in_proj.weight"] * rows[:, None]}


def silenced_rg_lru(p):
    return {"a_gate.w": 0 * p["a_gate.w"], "a_gate.b": np.random.default_rng(3).standard_normal(p["a_gate.b"].shape)}


SILENCED = {"s6": silenced_s6, "mamba2": silenced_mamba2, "rg_lru": silenced_rg_lru}
"""Functions that return the parameters with which the poles of a layer do not depend on its input."""
SIZES = {"mamba2": {"headdim": 4, "d_state": 3}}


def silenced(family):
    """A fresh layer whose poles do not depend on its input."""
    silence = row_of(SILENCED, family, "SILENCED in tests/families/test_at_bias.py")
    params = dict(fresh(family, d_model=8, **SIZES.get(family, {})).params)
    return load(params | silence(params))[""]


@pytest.mark.parametrize("family", SELECTIVE_FAMILIES)
def test_they_are_those_of_every_token(family):
    layer = silenced(family)
    along = layer.along(np.random.default_rng(4).standard_normal((5, 8)))
    want = layer.at_bias()
    if want.ndim < along.log_poles.ndim - 1:
        want = want[:, None, :]  # Mamba-2: one for all channels of a head and all their states
    for t in range(5):
        np.testing.assert_allclose(along.log_poles[t], np.broadcast_to(want, along.log_poles[t].shape), rtol=1e-13)


def test_of_complex_rg_lru():
    rng, half = np.random.default_rng(5), 4
    p = {"a_param": rng.standard_normal(half), "a_imag_param": rng.uniform(0, 0.3, half)}
    p |= {
        f"{gate}.{name}": rng.standard_normal(shape)
        for gate in ("a_gate", "input_gate")
        for name, shape in (("w", (2, 4, 2)), ("b", (2, 2)))
    }
    p["a_gate.w"] = np.zeros((2, 4, 2))
    layer = load(p)[""]
    along = layer.along(rng.standard_normal((3, 8)))
    np.testing.assert_allclose(along.log_poles[2], layer.at_bias(), rtol=1e-13)


def test_clamp_and_offset_belong_to_it():
    layer = silenced("mamba2")
    clamped = with_options(layer, time_step_limit=(0.05, 0.06)).at_bias()
    np.testing.assert_allclose(
        clamped[:, 0], -np.exp(layer.params["A_log"]) * np.clip(np.log1p(np.exp(layer.params["dt_bias"])), 0.05, 0.06)
    )
    layer = silenced("s6")
    moved = with_options(layer, dt_offset=0.5).at_bias() - layer.at_bias()
    np.testing.assert_allclose(moved, -0.5 * np.exp(layer.params["A_log"]), rtol=1e-12)
