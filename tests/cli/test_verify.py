"""``ssm-analysis verify``: what it prints, its exit codes, and that the witnesses in its JSON run again."""

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy

import ssm_analysis as ssm
from ssm_analysis import FAMILIES, verify
from ssm_analysis.certificates import Witness
from ssm_analysis.certificates.stored_witness import stored_witness, witness_of
from ssm_analysis.checkpoint.loading import load_one
from ssm_analysis.cli import main
from ssm_analysis.cli.verify import exit_code
from tests.support.stored_layers import fresh, trained

FAST = ["--dtype", "fp32", "--effort", "fast"]


def write(path, tensors):
    safetensors.numpy.save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)
    return str(path)


def blocks(*layers, norm=True):
    """Mixers with or without a norm in front."""
    tensors = {f"net.layers.{i}.mixer.{name}": x for i, layer in enumerate(layers) for name, x in layer.params.items()}
    norms = {f"net.layers.{i}.norm.weight": np.ones(4) for i in range(len(layers))} if norm else {}
    return tensors | norms


def lru(**changes):
    layer = FAMILIES["lru"].init(d_model=4, d_state=8, r_max=0.9)
    return {f"encoder.{name}": changes.get(name, x) for name, x in layer.params.items()}


@pytest.fixture
def mamba(tmp_path):
    return write(tmp_path / "mamba.safetensors", blocks(fresh("s6"), trained("s6")))


@pytest.fixture
def stable(tmp_path):
    return write(tmp_path / "lru.safetensors", lru())


def ran(capsys, *argv):
    """Status, output and messages."""
    try:
        status = main(["verify", *argv])
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return status, out, err


def data(capsys, *argv):
    """Status and what --json printed, read as everybody reads JSON."""

    def refuse(name):
        raise AssertionError(name)

    status, out, err = ran(capsys, *argv, "--json")
    assert err == ""
    return status, json.loads(out, parse_constant=refuse)


# exit codes


@pytest.mark.parametrize(
    ("verdicts", "complete", "code"),
    [
        (["proved"], True, 0),
        ([], True, 0),
        (["proved"], False, 3),
        (["proved", "undecided"], True, 3),
        (["proved", "refuted"], True, 1),
        (["invalid", "undecided"], True, 1),
        (["refuted", "undecided"], False, 1),
    ],
)
def test_the_code_is_that_of_the_worst_verdict(verdicts, complete, code):
    assert exit_code(verdicts, complete=complete) == code


def test_proved_is_0(capsys, stable):
    status, out, _ = ran(capsys, stable, *FAST, "--input-radius", "1")
    assert status == 0
    assert "7 proved; " in out


def test_undecided_is_3_and_says_what_would_help(capsys, stable):
    status, out, _ = ran(capsys, stable, *FAST)
    assert status == 3
    assert "undecided no_overflow:fp32, encoder: nothing bounds the input" in out
    assert "on the command line: --norm NAME of the norm beside the layer, or --input-radius R" in out


def test_refuted_is_1_and_names_the_mode(capsys, tmp_path):
    """S5 as its authors' code stores it, with one mode moved across the axis by 1e-12."""
    p = trained("s5").params
    tensors = {"Lambda_re": np.array(p["Lambda_re"]), "Lambda_im": p["Lambda_im"], "log_step": p["log_step"][:, None], "D": p["D"]}
    tensors |= {name: np.stack([p[name].real, p[name].imag], axis=-1) for name in ("B", "C")}
    tensors["Lambda_re"][2] = 1e-12
    path = write(tmp_path / "s5.safetensors", {f"encoder.{name}": x for name, x in tensors.items()})
    status, out, _ = ran(capsys, path, "--property", "asymptotic_stability")
    assert status == 1
    assert "REFUTED asymptotic_stability, encoder: mode (2,) does not decay" in out


def test_nan_is_invalid_and_1(capsys, tmp_path):
    path = write(tmp_path / "bad.safetensors", lru(nu_log=np.full(8, np.nan)))
    status, out, _ = ran(capsys, path, *FAST)
    assert status == 1
    assert "INVALID" in out
    assert "nu_log" in out
    assert "7 invalid" in out


def test_a_layer_that_was_not_recognized_is_3(capsys, tmp_path):
    tensors = blocks(fresh("s6"), trained("s6"))
    del tensors["net.layers.0.mixer.dt_proj.bias"]
    path = write(tmp_path / "half.safetensors", tensors)
    chosen = ["--property", "non_expansive"]
    status, out, _ = ran(capsys, path, *FAST, *chosen)
    assert status == 3
    assert "! net.layers.0.mixer: looks like Mamba, but lacks 'dt_proj.bias'" in out
    assert "1 proved; 1 problems may hide a layer without a certificate, so this is no proof of the whole" in out
    status, found = data(capsys, path, *FAST, *chosen)
    assert (status, found["exit_code"]) == (3, 3)
    assert found["unverified"] == found["problems"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--property", "stability"], "--property must be some of asymptotic_stability, .*; got stability"),
        (["--property", "no_overflow:fp16", "--dtype", "bf16"], "got no_overflow:fp16"),
        (["--property", "hinf_below"], "hinf_below needs --hinf-below G, the gain to stay below"),
        (["--property", "bounded_residual"], "got bounded_residual"),
        (["--layer", "decoder"], "no layer 'decoder'; there are 'encoder'"),
        (["--input-radius", "-1"], "input_radius must be a positive number"),
        (["--hinf-below", "0"], "hinf_below must be a positive number"),
        (["--rms-floor", "1"], "--rms-floor is about the model as a whole; give --composition too"),
        (["--composition", "--layer", "encoder"], "--composition is about the model as a whole; leave out --layer"),
        (["--dtype", "fp64"], "invalid choice: 'fp64'"),
        (["--effort", "hard"], "invalid choice: 'hard'"),
    ],
)
def test_wrong_usage_is_2(capsys, stable, argv, message):
    status, out, err = ran(capsys, stable, *argv)
    assert (status, out) == (2, "")
    assert re.search(message, err)


def test_no_checkpoint_is_2(capsys, tmp_path):
    status, out, err = ran(capsys, str(tmp_path / "nothing.safetensors"))
    assert (status, out) == (2, "")
    assert "nothing.safetensors" in err


def test_a_norm_by_its_name(capsys, tmp_path):
    tensors = {name.replace("mixer", "ssm").replace("norm", "ln"): x for name, x in blocks(fresh("s6")).items()}
    path = write(tmp_path / "own.safetensors", tensors)
    assert ran(capsys, path, *FAST)[0] == 3
    assert ran(capsys, path, *FAST, "--norm", "ln")[0] == 0


# what it prints


def test_several_layers_are_an_overview(capsys, mamba):
    status, out, _ = ran(capsys, mamba, "--dtype", "bf16")
    assert status == 1
    lines = out.splitlines()
    rows = [line for line in lines if line.startswith("net.layers.")]
    assert len(rows) == 2
    for row, some in zip(rows, ssm.verify(mamba, dtypes=["bf16"]).values(), strict=True):
        words = re.findall(r"proved, [\d.e+-]+ tokens|proved, [\d.e+-]+|proved|REFUTED|undecided|INVALID", row)
        assert [word.partition(",")[0].lower() for word in words] == [c.verdict for c in some]
        rate, state = (some[k].quantities for k in (1, 3))
        assert f"proved, {np.log(2) / rate['slowest decay rate'].lower:.3g} tokens" in words
        assert f"proved, {state['largest |h|'].upper:.3g}" in words
    (reason,) = [line for line in lines if line.startswith("REFUTED pole_inside:bf16, 2 layers, first net.layers.0.mixer: ")]
    assert reason.count("tokens of input") == 1


def test_half_lives_of_full_matrices_are_those_of_their_rate():
    """Their first number is the spectral radius."""
    from ssm_analysis.cli.verify import _cell

    sys_ = ssm.StateSpace(A=np.diag([0.5, 0.25]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=np.zeros((1, 1)))
    found = {c.property: c for c in verify(sys_, dtypes=[])}
    assert _cell(found["uniform_exponential_stability"]) == "proved, 1 tokens"
    assert _cell(found["non_expansive"]) == "proved"
    assert _cell(replace(found["bounded_state"], quantities={})) == "proved"


def test_layers_of_several_families_share_their_columns(capsys, tmp_path):
    """Families answer in orders of their own."""
    path = write(tmp_path / "both.safetensors", blocks(fresh("s6")) | lru())
    _, found = data(capsys, path, *FAST)
    names = [[c["property"] for c in some] for some in found["layers"].values()]
    assert len(names) == 2
    assert names[0] == names[1]


def test_one_layer_is_told_in_full(capsys, mamba):
    _, out, _ = ran(capsys, mamba, "--layer", "net.layers.1", *FAST)
    assert "Certificates of s6 layer 'net.layers.1.mixer'" in out
    assert re.search(r"^uniform_exponential_stability +proved +T2 +slowest decay rate in \[.*\] per token, half-life", out, re.MULTILINE)
    assert "net.layers.0" not in out


def test_explain_prints_a_page_for_each(capsys, stable):
    _, out, _ = ran(capsys, stable, *FAST, "--explain", "--property", "asymptotic_stability", "--property", "bounded_state")
    assert out.count("Theorem ") == 2
    assert "Theorem log-log. |lambda| = exp(-exp(nu)) < 1 for every real nu." in out
    assert "It does not say: Whether it is executed as a number below 1" in out


def test_a_name_without_its_format_means_all_formats(capsys, stable):
    _, found = data(capsys, stable, "--property", "pole_inside", "--property", "no_overflow:bf16")
    (some,) = found["layers"].values()
    assert [c["property"] for c in some] == ["pole_inside:fp32", "pole_inside:bf16", "no_overflow:bf16", "pole_inside:fp16"]


def test_gains_are_asked_for(capsys, stable):
    status, found = data(capsys, stable, "--hinf-below", "1e6", "--l1-below", "1e-6", "--property", "hinf_below", "--property", "l1_below")
    assert status == 1
    assert {c["property"]: c["verdict"] for c in found["layers"]["encoder"]} == {"hinf_below": "proved", "l1_below": "refuted"}


def test_the_model_as_a_whole(capsys, tmp_path):
    tensors = blocks(fresh("s6"), trained("s6")) | {"net.embedding.weight": np.ones((7, 4)), "net.norm_f.weight": np.ones(4)}
    for i, layer in enumerate((fresh("s6"), trained("s6"))):
        tensors[f"net.layers.{i}.mixer.out_proj.weight"] = np.ones((4, len(layer.params["D"])))
    path = write(tmp_path / "whole.safetensors", tensors)
    status, out, _ = ran(capsys, path, *FAST, "--composition")
    assert status == 3
    assert "Certificates of residual stream" in out
    assert re.search(r"^bounded_residual +proved +residual +largest \|x_i\| in", out, re.MULTILINE)
    assert "undecided incremental_gain, residual stream: near an input of size 0" in out
    status, found = data(capsys, path, *FAST, "--composition", "--rms-floor", "0.5", "--property", "residual_fits")
    assert status == 0
    assert found["layers"] == {"net.layers.0.mixer": [], "net.layers.1.mixer": []}
    assert [(c["property"], c["verdict"]) for c in found["composition"]] == [("residual_fits:fp32", "proved")]


def test_json_is_complete(capsys, mamba):
    status, found = data(capsys, mamba, "--dtype", "bf16")
    assert found["path"] == mamba
    assert found["exit_code"] == status
    certificates = [c for some in found["layers"].values() for c in some]
    assert sum(found["verdicts"].values()) == len(certificates) == 14
    assert found["verdicts"]["refuted"] == 2
    want = ssm.verify(mamba, dtypes=["bf16"])
    for some, others in zip(found["layers"].values(), want.values(), strict=True):
        for one, other in zip(some, others, strict=True):
            assert {name: x for name, x in one.items() if name not in ("witness", "cost_s")} == json.loads(
                json.dumps({name: x for name, x in other.to_dict().items() if name not in ("witness", "cost_s")})
            )


def test_a_bar_on_the_terminal_only(mamba):
    """Standard error on a pseudo-terminal: layers are counted there, and the output stays clean."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "ssm_analysis", "verify", mamba, *FAST, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        with os.fdopen(ours, "rb") as screen, contextlib.suppress(OSError):  # of a terminal that is gone: the end
            while more := screen.read1():  # while it runs: a terminal that nobody reads stops the program
                shown += more
        assert process.stdout is not None
        json.loads(process.stdout.read())
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert process.returncode == 0
    assert "layers" in shown
    assert "2/2" in shown


# witnesses


def test_a_refutation_replays_from_the_report(capsys, mamba):
    _, found = data(capsys, mamba, "--dtype", "bf16", "--property", "pole_inside")
    for name, (certificate,) in found["layers"].items():
        witness = witness_of(certificate["witness"], layer=load_one(mamba, name))
        replayed = witness.replay()
        assert replayed.violated
        assert replayed.measured == 1.0
        assert witness.describe() == certificate["witness"]["description"]


def test_a_replay_refuses_another_layer(capsys, mamba):
    _, found = data(capsys, mamba, "--dtype", "bf16", "--property", "pole_inside")
    stored = found["layers"]["net.layers.0.mixer"][0]["witness"]
    with pytest.raises(ValueError, match=r"the parameters of the layer 'net.layers.1.mixer' are not those that the witness refutes"):
        witness_of(stored, layer=load_one(mamba, "net.layers.1.mixer"))
    with pytest.raises(ValueError, match=r"an input of the layer 'net.layers.0.mixer': give layer="):
        witness_of(stored)
    with pytest.raises(ValueError, match=r"the kind of a witness must be one of .*; got 'ghost'"):
        witness_of({"kind": "ghost", "fields": {}})


def witnesses():
    """One of each kind that a few lines provoke."""
    one = np.ones((1, 1))
    unstable = ssm.DiagonalSSM(log_poles=np.asarray([0.1 + 0.2j]), B=one, C=one, D=0 * one)
    slow = ssm.DiagonalSSM(log_poles=np.asarray([-1e-18 + 0.3j]), B=one, C=one, D=0 * one)
    good = ssm.DiagonalSSM(log_poles=np.asarray([-0.1]), B=one, C=one, D=0 * one)
    shear = ssm.StateSpace(A=np.asarray([[0.5, 9.0], [0.0, 0.5]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=0 * one)
    grows = ssm.StateSpace(A=np.asarray([[0.5, 2.0], [2.0, 0.5]]), B=np.ones((2, 1)), C=np.ones((1, 2)), D=0 * one)
    subjects = (unstable, slow, good, shear, grows)
    certificates = [c for sys_ in subjects for c in verify(sys_, dtypes=["fp32"], hinf_below=1e-3, l1_below=1e-3)]
    return {c.witness.kind: c.witness for c in certificates if c.witness is not None}


@pytest.mark.parametrize("kind", sorted({kind.kind for kind in Witness.__subclasses__()} - {"input"}))
def test_every_kind_survives_json(kind):
    witness = witnesses()[kind]
    again = witness_of(json.loads(json.dumps(stored_witness(witness), allow_nan=False)))
    assert type(again) is type(witness)
    one, other = witness.replay(), again.replay()
    assert one.violated
    assert one == other


def test_tokens_that_repeat_are_stored_once():
    layer = fresh("s6")
    from ssm_analysis.certificates.witness import Drive

    u = np.repeat(np.random.default_rng(0).standard_normal((3, 4)), [1, 5000, 2], axis=0)
    witness = Drive(layer=layer, u=u, index=(0, 0), quantity="state", limit=0.0, dtype="fp32")
    stored = json.loads(json.dumps(stored_witness(witness)))
    assert stored["fields"]["u"]["repeats"] == [1, 5000, 2]
    again = witness_of(stored, layer=layer)
    np.testing.assert_array_equal(again.u, u)
    assert again.replay() == witness.replay()
