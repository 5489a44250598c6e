"""The example with a really trained Mamba: the package's own code is the oracle, in its own 32 bits and lifted to 64."""

import importlib.util
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis import FAMILIES, simulate
from ssm_analysis.analyses.spectrum import decay_rates
from ssm_analysis.xp import to_numpy

EXAMPLE = Path(__file__).parents[2] / "examples" / "trained_mamba.py"
LENGTH = 400
BLOCKS = range(6)


class Lifted:
    """numpy in which float32 means float64: runs the package's code in 64 bits."""

    float32 = np.float64

    def __getattr__(self, name):
        return getattr(np, name)


class Oracle:
    """The package's forward pass, with what goes into and comes out of each of its scans: forward and reverse of block 0, 1, ..."""

    def __init__(self, xp, weights, tokens):
        from typeseg import _mamba_kernel

        self.scans = []

        def scan(xp, *arguments):
            y = _mamba_kernel._selective_scan_seq(xp, *arguments)
            self.scans.append((*arguments, y))
            return y

        self.logits = _mamba_kernel.mamba_forward(xp, weights, tokens, scan=scan)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("trained_mamba", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text():
    pytest.importorskip("typeseg", reason="the trained Mamba is in the package typeseg 0.2.7, which is not installed")
    return "Résumé — " + metadata("typeseg").json["description"]  # some of it beyond ASCII at once


@pytest.fixture(scope="module")
def tokens(text):
    from typeseg._tokenize import text_to_bytes

    return text_to_bytes(text)[:LENGTH]


@pytest.fixture(scope="module")
def oracle(tokens):
    from typeseg._runtime import _weights

    return Oracle(Lifted(), {name: x.astype(np.float64) for name, x in _weights("mamba_al.npz")._d.items()}, tokens)


@pytest.fixture(scope="module")
def model(example, text):
    weights, blocks = example.read_weights()
    inputs, logits = example.forward_pass(weights, blocks, example.tokens_of(text)[:LENGTH])
    return blocks, inputs, logits


def relative(found, want):
    """Largest error, in units of the largest number."""
    return np.max(np.abs(found - want)) / np.max(np.abs(want))


@pytest.mark.parametrize("i", BLOCKS)
@pytest.mark.parametrize("direction", [0, 1], ids=["forward", "reverse"])
def test_each_exported_layer_is_the_scan_of_the_package(example, model, oracle, i, direction):
    blocks, inputs, _ = model
    layer, u = example.layers(blocks[i], i)[direction], inputs[i][:: 1 - 2 * direction]
    x, delta, B, C, A, D, y = oracle.scans[2 * i + direction]
    system, core = layer.along(u), layer.core_input(u)
    assert relative(core[..., 0], x) < 1e-10
    assert relative(simulate(system, core)[..., 0], y) < 1e-10
    np.testing.assert_allclose(system.log_poles, delta[..., None] * A, rtol=1e-9)
    np.testing.assert_allclose(system.B[..., 0], delta[..., None] * B[:, None, :], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(system.C[..., 0, :], C[:, None, :] * np.exp(delta[..., None] * A), rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(system.D[..., 0, 0], np.sum(C[:, None, :] * delta[..., None] * B[:, None, :], axis=-1) + D, atol=1e-10)


def test_the_network_on_exported_systems_is_the_package(model, oracle):
    assert relative(model[2], oracle.logits) < 1e-10


def test_the_package_as_it_is_published_agrees_within_its_own_rounding(model, oracle, tokens):
    from typeseg._runtime import _weights

    published = Oracle(np, _weights("mamba_al.npz"), tokens)
    assert published.logits.dtype == np.float32
    assert relative(model[2], published.logits) < 1e-4
    for ours, theirs in zip(oracle.scans, published.scans, strict=True):
        assert relative(ours[-1], theirs[-1]) < 1e-4


@pytest.mark.parametrize("i", [0, 5])
def test_reference_recurrence_of_the_family_agrees(example, model, oracle, i):
    for direction, layer in enumerate(example.layers(model[0][i], i)):
        u = model[1][i][:: 1 - 2 * direction][:40]  # the reference is slow; 40 tokens, of which the last see beyond the cut
        assert relative(simulate(layer.along(u), layer.core_input(u)), layer.reference(u)) < 1e-12


@pytest.mark.parametrize("i", BLOCKS)
def test_both_directions_have_the_same_eigenvalues(example, model, i):
    forward, reverse = example.layers(model[0][i], i)
    u = model[1][i]
    np.testing.assert_allclose(reverse.along(u[::-1]).log_poles[::-1], forward.along(u).log_poles, rtol=1e-9)
    assert reverse.name == f"{forward.name}:reverse"


def test_memory_is_short_at_the_bias_and_ten_thousand_tokens_along_text(example, model):
    """|lambda| of the package's own A and step; 1e-4 is the floor of the step in its code, so that no time exceeds 1 / (1e-4 min a)."""
    blocks, inputs, _ = model
    trained = [example.modes_along(example.layers(w, i)[0], u) for i, (w, u) in enumerate(zip(blocks, inputs, strict=True))]
    at_bias = np.exp(-np.concatenate([m.at_bias for m in trained]))
    want = [np.exp(-np.exp(w["A_log"]) * (np.logaddexp(0, w["Dense_2/bias"]) + 1e-4)[:, None]) for w in blocks]
    np.testing.assert_allclose(np.sort(at_bias), np.sort(np.ravel(want)), rtol=1e-12)
    assert 0.43 < at_bias.min() < 0.45
    assert 0.67 < at_bias.max() < 0.68
    assert np.max(-1 / np.log(at_bias)) < 3
    longest = [1 / m.along[0] for m in trained]
    assert 10_000 < max(longest) < 20_000
    for w, time in zip(blocks, longest, strict=True):
        assert time <= 1 / (1e-4 * np.exp(np.min(w["A_log"])))


def test_statistics_count_every_mode_at_every_token(example, model):
    layer, u = example.layers(model[0][2], 2)[0], model[1][2][:50]
    rates = decay_rates(layer.along(u))
    m = example.modes_along(layer, u)
    assert (m.along[0], m.along[-1]) == (rates.min(), rates.max())
    assert np.all(np.diff(m.along) >= 0)
    np.testing.assert_allclose(m.along[1000], np.median(rates), rtol=1e-3)
    np.testing.assert_allclose(m.beyond, [np.mean(1 / rates >= lag) for lag in example.LAGS], atol=1e-12)
    product = np.prod(to_numpy(layer.along(u).poles()), axis=0)
    np.testing.assert_allclose(np.sort(np.exp(-50 * m.averaged)), np.sort(product, axis=None), rtol=1e-8, atol=1e-300)


def test_start_is_as_the_training_code_draws_it(example, model):
    """lambda = e^-softplus(0) = 1/2 at the bias; weights of variance 1/fan-in."""
    trained = example.layers(model[0][0], 0)[0]
    start = example.before_training(trained, seed=0)
    assert {name: x.shape for name, x in start.params.items()} == {name: x.shape for name, x in trained.params.items()}
    assert start.options == trained.options
    at_bias = example.modes_along(start, model[1][0][:5]).at_bias
    np.testing.assert_allclose(np.exp(-np.median(at_bias)), 0.5, atol=1e-3)
    assert np.ptp(at_bias) > 0
    for name, fan_in in (("in_proj.weight", 256), ("conv1d.weight", 4), ("x_proj.weight", 256), ("dt_proj.weight", 16)):
        np.testing.assert_allclose(np.std(start.params[name]), fan_in**-0.5, rtol=0.05)
    usual, again, _ = example.stages(model[0][0], 0)
    np.testing.assert_allclose(usual.params["A_log"], np.log(np.tile(np.arange(1.0, 17), (256, 1))), rtol=1e-15)
    np.testing.assert_array_equal(again.params["A_log"], start.params["A_log"])


def test_program_prints_a_table_and_draws(example, text, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(example, "TOKENS", 200)
    source, out = tmp_path / "text.md", tmp_path / "picture.png"
    source.write_text(text, encoding="utf-8")
    assert example.main(["--text", str(source), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("200 tokens (bytes), which the network reads as ")
    assert "markdown" in printed
    assert [line.split()[0] for line in printed.splitlines() if "usual start" in line] == list("012345")
    assert all(printed.count(who) == 6 for who in example.WHO)
    assert out.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "must hold some text"), (b"\xff\xfe\xff", "can't decode")],
    ids=["missing", "empty", "not UTF-8"],
)
def test_program_says_what_is_wrong_with_a_text(example, text, tmp_path, capsys, content, message):
    source = tmp_path / "text.txt"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(SystemExit, match="2"):
        example.main(["--text", str(source), "--out", str(tmp_path / "picture.png")])
    assert message in capsys.readouterr().err


def test_program_says_what_to_install(example, tmp_path, capsys, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(example, "metadata", missing)
    with pytest.raises(SystemExit, match="2"):
        example.main(["--out", str(tmp_path / "picture.png")])
    assert "pip install typeseg==0.2.7" in capsys.readouterr().err


def test_program_refuses_a_picture_it_cannot_write_before_working(example, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        example.main(["--out", str(tmp_path / "no" / "picture.png")])
    assert "--out must lie in an existing folder" in capsys.readouterr().err


@pytest.mark.parametrize("conv_padding", ["causal", "same"])
def test_biases_of_the_projections_count(rng, conv_padding):
    """Family s6 with the biases that these layers have and fresh ones lack: against the step-by-step recurrence; zeros change nothing."""
    fresh = FAMILIES["s6"].init(d_model=6, d_state=4, seed=3)
    u = rng.standard_normal((20, 6))
    biases = {"in_proj.bias": rng.standard_normal(24), "x_proj.bias": rng.standard_normal(9)}
    options = {name: replace(a, value=conv_padding) if name == "conv_padding" else a for name, a in fresh.assumptions.items()}
    bare = replace(fresh, assumptions=options)
    biased = replace(bare, params=fresh.params | biases)
    zero = replace(bare, params=fresh.params | {name: 0 * x for name, x in biases.items()})
    y, plain = (simulate(layer.along(u), layer.core_input(u)) for layer in (biased, bare))
    np.testing.assert_allclose(y, biased.reference(u), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(simulate(zero.along(u), zero.core_input(u)), plain)
    assert relative(y, plain) > 0.1
