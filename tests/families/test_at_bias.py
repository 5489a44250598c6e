"""The poles that the biases of a selective layer give: those along any input where nothing reads it."""

import numpy as np
import pytest

from ssm_analysis import FAMILIES, load
from tests.support.families_table import with_options


def silenced(family):
    """A fresh layer whose step or decay does not read the input, and the names that were set to 0."""
    layer = FAMILIES[family].init(d_model=8, **({"headdim": 4, "d_state": 3} if family == "mamba2" else {}))
    p = {name: np.array(x) for name, x in layer.params.items()}
    rng = np.random.default_rng(3)
    if family == "s6":
        p["x_proj.weight"][:] = 0
    elif family == "mamba2":
        p["in_proj.weight"][-len(p["dt_bias"]) :] = 0
    else:
        p["a_gate.w"][:] = 0
        p["a_gate.b"] = rng.standard_normal(p["a_gate.b"].shape)
    return load(p)[""]


@pytest.mark.parametrize("family", ["s6", "mamba2", "rg_lru"])
def test_they_are_those_of_every_token(family):
    layer = silenced(family)
    along = layer.along(np.random.default_rng(4).standard_normal((5, 8)))
    want = layer.at_bias()
    want = want[:, None, :] if family == "mamba2" else want  # one for all channels of a head and all their states
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
