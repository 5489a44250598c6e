"""What the program says to other programs: verdicts survive closed pipes, and an error of ours is never a verdict."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssm_analysis import cli
from ssm_analysis.cli import main
from ssm_analysis.inspection.atomic_files import write_atomically
from tests.support.families_table import fresh


def stored(path, layer, **changed):
    np.savez(path, **{f"layers.0.{name}": changed.get(name, x) for name, x in layer.params.items()})
    return str(path)


@pytest.fixture
def good(tmp_path):
    return stored(tmp_path / "good.npz", fresh("lru"))


@pytest.fixture
def refuted(tmp_path):
    layer = fresh("s5")
    return stored(tmp_path / "bad.npz", layer, Lambda_re=np.abs(layer.params["Lambda_re"]))


def program(*argv, **how):
    return subprocess.Popen([sys.executable, "-m", "ssm_analysis", *argv], stderr=subprocess.PIPE, text=True, **how)


def status_with_a_closed_pipe(*argv):
    """Nobody reads what the program prints."""
    reader, writer = os.pipe()
    os.close(reader)
    with program(*argv, stdout=writer) as process:
        os.close(writer)
        _, said = process.communicate(timeout=120)
    assert "Traceback" not in said
    return process.returncode


def test_a_verdict_survives_a_closed_pipe(good, refuted):
    asked = ("--dtype", "fp32", "--effort", "fast", "--property", "asymptotic_stability")
    assert status_with_a_closed_pipe("verify", refuted, *asked) == 1
    assert status_with_a_closed_pipe("verify", good, *asked) == 0


def test_other_commands_say_that_the_pipe_was_closed(good):
    assert status_with_a_closed_pipe("inspect", good, "--no-norms") == 141


def test_output_that_was_closed_from_the_start(good):
    command = f"{sys.executable} -m ssm_analysis verify {good} --dtype fp32 --effort fast --property asymptotic_stability >&-"
    done = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("error", "status", "says"), [
    (KeyboardInterrupt(), 130, "interrupted"),
    (RuntimeError("a bug"), 70, "internal error, please report it: RuntimeError: a bug"),
    (ValueError("no such thing"), 2, "ssm-analysis: no such thing"),
    (KeyError("no layer"), 2, "ssm-analysis: no layer"),
])  # fmt: skip
def test_what_goes_wrong_has_a_status_of_its_own(monkeypatch, capsys, error, status, says):
    def run(arguments):
        raise error

    monkeypatch.setattr(cli.families, "run", run)
    monkeypatch.setenv("SSM_ANALYSIS_TRACEBACK", "")
    assert main(["families"]) == status
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


def test_the_traceback_of_an_internal_error_is_there_for_the_asking(monkeypatch, capsys):
    def run(arguments):
        raise RuntimeError("a bug")

    monkeypatch.setattr(cli.families, "run", run)
    monkeypatch.setenv("SSM_ANALYSIS_TRACEBACK", "1")
    assert main(["families"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_quiet_leaves_out_remarks_and_keeps_the_table(good, capsys):
    assert main(["inspect", good, "--no-norms"]) == 0
    loud = capsys.readouterr().out
    assert main(["inspect", good, "--no-norms", "--quiet"]) == 0
    quiet = capsys.readouterr().out
    assert "npz" in loud.splitlines()[0]
    assert "npz" not in quiet
    assert "layers.0" in quiet


@pytest.mark.parametrize("command", [module.__name__.rpartition(".")[2] for module in cli.COMMANDS])
def test_every_command_shows_examples(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"examples:\n  ssm-analysis {command}" in capsys.readouterr().out


# files that are there whole or not at all


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    place = tmp_path / "a.txt"
    place.write_text("old")

    def write(part):
        part.write_text("half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_atomically(place, write)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_mode_and_links_are_kept(tmp_path):
    place, link = tmp_path / "a.txt", tmp_path / "link.txt"
    place.write_text("old")
    place.chmod(0o600)
    link.symlink_to(place)
    write_atomically(link, lambda part: part.write_text("new"))
    assert link.is_symlink()
    assert place.read_text() == "new"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    fresh_file = write_atomically(tmp_path / "b.txt", lambda part: part.write_text("new"))
    (tmp_path / "c.txt").write_text("plain")
    assert fresh_file.stat().st_mode == (tmp_path / "c.txt").stat().st_mode


def test_a_planted_link_is_not_followed(tmp_path):
    """The name beside the place cannot be guessed, so that no link can wait there."""
    names = []
    for _ in range(2):
        write_atomically(tmp_path / "a.txt", lambda part: names.append(Path(part).name))
    assert names[0] != names[1]
