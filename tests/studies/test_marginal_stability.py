"""The experiment near the circle: closed forms of the fresh layers, and time-invariant layers against the time-invariant analyses."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis import FAMILIES, horizon, hsv, time_constants
from ssm_analysis.studies.marginal_stability import ANY, VARIANTS, Variant, marginal_stability_experiment, sample_inputs

EXAMPLE = Path(__file__).parents[2] / "examples" / "marginal_stability.py"
D, N, L = 3, 6, 96


@pytest.fixture(scope="module")
def found():
    return marginal_stability_experiment(d_model=D, d_state=N, length=L, seed=4)


def of(found, title, which="white"):
    (one,) = (b for b in found.behaviors if b.variant == title and b.input == which)
    return one


def test_every_variant_along_every_input(found):
    selective = [(v.title, which) for v in VARIANTS[:4] for which in ("white", "slow")]
    assert [(b.variant, b.input) for b in found.behaviors] == selective + [(v.title, ANY) for v in VARIANTS[4:]]
    for b in found.behaviors:
        systems = {"S6": 2 * D, "RG": D, "S4": D, "S5": 1, "LR": 1}[b.variant[:2]]
        assert b.receptive_field.shape == b.effective_states.shape == (systems,)
        assert b.exponents.shape == (systems, b.states)
        assert b.poles.counts.sum() == L * systems * b.states
        assert np.all(b.effective_states >= 1 - 1e-9)
        assert np.all(b.effective_states <= b.states + 1e-9)
        assert np.all(b.receptive_field < L)


def test_near_unit_rates_are_a_half_of_the_step(found):
    """-log|lambda| = n Delta by default and Delta / 2 near the circle: of the same steps, since the seed is the same."""
    usual, near = of(found, "S6, A = -(1..N)"), of(found, "S6, A = -1/2")
    np.testing.assert_allclose(near.exponents * 2 * np.arange(1, N + 1), usual.exponents, rtol=1e-10)
    np.testing.assert_allclose(near.longest, 2 * usual.longest, rtol=1e-10)
    np.testing.assert_allclose(near.selectivity, usual.selectivity, rtol=1e-10)
    assert np.median(near.receptive_field) > np.median(usual.receptive_field)


def test_rings_of_rg_lru_are_its_rates_at_an_open_gate(found):
    """Both draw the radius of the ring at the same quantile; the default of one is near the eighth power of the other."""
    a, a8 = (of(found, f"RG-LRU, ring of a{end}") for end in ("", "⁸"))
    rates = [8 * np.log1p(np.exp(FAMILIES["rg_lru"].init(d_model=D, ring=ring, seed=4).params["a_param"])) for ring in ("a", "a^8")]
    for b, rate in zip((a, a8), rates, strict=True):
        assert np.all(-b.exponents[:, 0] < rate)
        assert b.longest > 1 / np.max(rate)
    np.testing.assert_allclose(a.exponents[:, 0] / rates[0], a8.exponents[:, 0] / rates[1], rtol=1e-10, err_msg="the same gates")
    assert a.selectivity > 0.4


@pytest.mark.parametrize("title", [v.title for v in VARIANTS[4:]])
def test_time_invariant_layers_do_not_move(found, title):
    b = of(found, title, ANY)
    assert b.selectivity < 1e-12
    (variant,) = (v for v in VARIANTS if v.title == title)
    sys = FAMILIES[variant.family].init(d_model=D, d_state=N, seed=4, **variant.options).system()
    tau = time_constants(sys.expand())
    np.testing.assert_allclose(-1 / b.exponents, tau.reshape(b.exponents.shape), rtol=1e-10)
    np.testing.assert_allclose(b.longest, np.max(tau), rtol=1e-10)


def test_the_receptive_field_of_a_fast_layer_is_its_horizon():
    """Where the window is long enough; `horizon` counts the same tokens from the kernel."""
    fast = Variant(title="fast", family="lru", options={"r_min": 0.2, "r_max": 0.8})
    (b,) = marginal_stability_experiment(d_model=D, d_state=N, length=200, seed=4, variants=[fast]).behaviors
    layer = FAMILIES["lru"].init(d_model=D, d_state=N, seed=4, r_min=0.2, r_max=0.8)
    sys = layer.system()
    bare = type(sys)(log_poles=sys.log_poles, B=sys.B, C=sys.C, D=sys.D - np.diag(layer.params["D"]))
    assert b.receptive_field[0] == horizon(bare, share=0.9)
    sigma = hsv(bare)
    p = sigma / np.sum(sigma)
    p = p[p > 0]
    np.testing.assert_allclose(b.effective_states, np.exp(-np.sum(p * np.log(p))), rtol=1e-6)


def test_inputs_of_ones_own(found):
    again = marginal_stability_experiment(d_model=D, d_state=N, seed=4, inputs={"mine": found.inputs["slow"]}, variants=VARIANTS[:1])
    (b,) = again.behaviors
    assert b.input == "mine"
    np.testing.assert_array_equal(b.exponents, of(found, VARIANTS[0].title, "slow").exponents)


def test_sample_inputs_are_as_large_as_what_a_norm_emits():
    made = sample_inputs(20_000, 4, 1)
    for u, correlation in ((made["white"], 0.0), (made["slow"], 0.95)):
        np.testing.assert_allclose(np.mean(u**2), 1, rtol=0.1)
        np.testing.assert_allclose(np.mean(u[1:] * u[:-1]), correlation, atol=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variants": []}, "there must be at least one variant and one input, got 0 and 2"),
        ({"inputs": {}}, "there must be at least one variant and one input, got 8 and 0"),
        ({"inputs": {"a": np.ones((9, D + 1))}}, r"inputs must all have one shape \(L, 3\), L at least 4, got \[\(9, 4\)\]"),
        ({"inputs": {"a": np.ones((9, D)), "b": np.ones((8, D))}}, r"inputs must all have one shape \(L, 3\)"),
        ({"inputs": {"a": np.ones((3, D))}}, "L at least 4"),
        ({"length": 0}, "length must be a positive integer"),
        ({"variants": [Variant(title="dense", family="s4")]}, "variants must be of diagonal families, and 's4' has a dense A"),
    ],
)
def test_what_cannot_be_compared(changes, message):
    with pytest.raises(ValueError, match=message):
        marginal_stability_experiment(**({"d_model": D, "d_state": N, "length": 8} | changes))


# the program


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("marginal_stability_example", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_program_prints_and_draws(example, tmp_path, capsys):
    out = tmp_path / "picture.png"
    assert example.main(["--out", str(out), "--d-model", "2", "--d-state", "4", "--length", "64"]) == 0
    printed = capsys.readouterr().out
    for variant in VARIANTS:
        assert variant.title in printed
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_program_says_what_is_wrong(example, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        example.main(["--out", str(tmp_path / "no" / "picture.png")])
    assert "--out must lie in an existing folder" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        example.main(["--out", str(tmp_path / "picture.png"), "--length", "0"])
    assert "length must be a positive integer" in capsys.readouterr().err
