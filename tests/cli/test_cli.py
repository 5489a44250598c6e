"""The program: what it prints, what it writes, how it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

import ssm_analysis
from ssm_analysis import FAMILIES
from ssm_analysis.cli import main
from ssm_analysis.cli.output import save
from ssm_analysis.families import PAPER
from ssm_analysis.studies.initialization import initial_eigenvalues

SMALL = ["--d-model", "2", "--state-size", "4"]
MAGIC = {".png": b"\x89PNG\r\n\x1a\n", ".svg": b"<?xml", ".pdf": b"%PDF-"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)


def strictly(text):
    """JSON as everybody reads it: no NaN, no Infinity."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def contents():
    return sorted(path.name for path in Path().iterdir())


def refused(capsys, *argv):
    """The message of a command that fails with status 2 and prints nothing else."""
    try:
        status = main(argv)
    except SystemExit as exit_:
        status = exit_.code
    out, err = capsys.readouterr()
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    return err


# figure


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf", ".PNG"])
def test_the_picture_has_the_format_of_its_name(capsys, suffix):
    assert main(["figure", *SMALL, "--families", "lru", "s6", "--out", f"picture{suffix}"]) == 0
    content = Path(f"picture{suffix}").read_bytes()
    assert content.startswith(MAGIC[suffix.lower()])
    assert len(content) > 5_000
    assert contents() == [f"picture{suffix}"]
    assert capsys.readouterr().out.endswith(f"drawn: picture{suffix}\n")
    assert plt.get_fignums() == []


def test_by_default_the_families_of_the_paper_are_drawn_here(capsys):
    assert main(["figure", *SMALL]) == 0
    out = capsys.readouterr().out
    assert [family.title in out for name, family in FAMILIES.items()] == [name in PAPER for name in FAMILIES]
    assert contents() == ["unit_disk.png"]


def test_the_table_cuts_nothing_off(capsys):
    assert main(["figure", *SMALL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "…" not in "".join(lines)
    (head,) = (line for line in lines if line.startswith("family"))
    assert head.split() == ["family", "max", "|λ|", "1-|λ|", "time", "c.", "half-life", "share", "of", ">10", ">100", ">1k", ">10k"]
    assert sum(bool(re.search(r" modes +\d", line)) for line in lines) == len(PAPER) + 2  # two inputs of S6 and of RG-LRU
    (s4,) = (line for line in lines if line.startswith("S4 "))
    assert len(s4.split()) == 10
    assert sum(line.split()[:1] == ["residues"] and line.count("–") == 4 for line in lines) == 1  # of S4


def test_the_table_says_what_the_json_says(capsys):
    main(["figure", *SMALL, "--families", "lru"])
    (row,) = (line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("LRU"))
    main(["figure", *SMALL, "--families", "lru", "--json"])
    memory = strictly(capsys.readouterr().out)["families"][0]["series"][0]["memory"]
    assert row[1] == f"{memory['largest']:.6f}"
    assert row[2] == f"{memory['margin']:.1e}"
    assert float(row[3].replace(",", "")) == pytest.approx(memory["time_constant"], rel=0.01)
    assert float(row[4].replace(",", "")) == pytest.approx(memory["half_life"], rel=0.01)
    assert float(row[6]) == pytest.approx(100 * memory["modes_beyond"][0], abs=0.5)


def test_json_holds_what_is_drawn(capsys):
    assert main(["figure", *SMALL, "--seed", "3", "--json", "--out", "a.svg"]) == 0
    data = strictly(capsys.readouterr().out)
    assert {key: data[key] for key in ("d_model", "d_state", "seed", "file")} == {"d_model": 2, "d_state": 4, "seed": 3, "file": "a.svg"}
    assert [entry["family"] for entry in data["families"]] == list(PAPER)
    for entry, panel in zip(data["families"], initial_eigenvalues(d_model=2, d_state=4, seed=3), strict=True):
        assert entry["setting"] == panel.setting
        assert entry["matrix"] == panel.matrix
        assert entry["eigenvector_condition"] == panel.condition
        for got, series in zip(entry["series"], panel.series, strict=True):
            np.testing.assert_array_equal(got["real"], np.exp(series.log_poles).real)
            np.testing.assert_array_equal(got["one_minus_abs"], -np.expm1(series.log_poles.real))
    assert data["families"][0]["series"][0]["memory"]["residue_beyond"] == [None] * 4  # S4's modes have no residues


def test_the_seed_decides(capsys):
    printed = []
    for seed in ("0", "0", "1"):
        main(["figure", *SMALL, "--families", "lru", "s6", "--seed", seed, "--json"])
        printed.append(strictly(capsys.readouterr().out)["families"])
    assert printed[0] == printed[1] != printed[2]


def test_families_are_drawn_in_the_order_given(capsys):
    assert main(["figure", *SMALL, "--families", "rg_lru", "s5", "--json"]) == 0
    assert [entry["family"] for entry in strictly(capsys.readouterr().out)["families"]] == ["rg_lru", "s5"]


# families


def test_the_feature_table(capsys):
    assert main(["families"]) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    for family in FAMILIES.values():
        for word in f"{family.title} {family.paper} {family.features.discretization} {family.features.parametrization}".split():
            assert word in out, word
    assert len({len(line) for line in out.splitlines()[1:]}) == 1


def test_the_feature_table_uses_the_width_there_is(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    main(["families"])
    assert len(capsys.readouterr().out.splitlines()[1]) == 300


def test_the_feature_table_as_data(capsys):
    assert main(["families", "--json"]) == 0
    rows = strictly(capsys.readouterr().out)["families"]
    assert [row["family"] for row in rows] == list(FAMILIES)
    assert [row["model"] for row in rows][:6] == ["S4", "S4D", "S5", "LRU", "S6 (Mamba)", "RG-LRU"]
    assert [row["dynamics"][:3] for row in rows][:6] == ["LTI"] * 4 + ["LTV"] * 2
    keys = ["family", "model", "dynamics", "channels", "parametrization", "discretization", "structure", "initialization", "implementation"]
    assert all(list(row) == [*keys, "paper"] and all(row.values()) for row in rows)


# refusals


def test_unknown_families_and_bad_sizes(capsys):
    assert refused(capsys, "figure", "--families", "lru", "mamba") == (
        f"ssm-analysis: unknown family 'mamba'; there are {', '.join(FAMILIES)}\n"
    )
    assert "d_model must be a positive integer, got 0" in refused(capsys, "figure", "--d-model", "0")
    assert "d_state must be a positive integer, got -4" in refused(capsys, "figure", "--state-size", "-4")
    assert "seed must be a non-negative integer, got -1" in refused(capsys, "figure", "--seed", "-1", "--families", "lru")
    assert "d_state must be even" in refused(capsys, "figure", "--state-size", "7", "--families", "s4d")
    assert "invalid int value: '6.5'" in refused(capsys, "figure", "--state-size", "6.5")
    assert "expected at least one argument" in refused(capsys, "figure", "--families")
    assert "the following arguments are required: COMMAND" in refused(capsys)
    assert "invalid choice: 'draw'" in refused(capsys, "draw")
    assert contents() == []


def test_where_no_picture_can_be_written(capsys):
    Path("folder.png").mkdir()
    Path("file").write_text("mine")
    for out, message in (
        ("picture.bmp", "--out must end in .png, .svg, .pdf, got 'picture.bmp'"),
        ("picture", "--out must end in"),
        ("missing/picture.png", "--out must lie in an existing folder, got 'missing/picture.png': there is no folder 'missing'"),
        ("file/picture.png", "--out must lie in an existing folder, got 'file/picture.png': there is no folder 'file'"),
        ("folder.png", "--out must be a file, got the folder 'folder.png'"),
    ):
        assert refused(capsys, "figure", *SMALL, "--out", out).startswith(f"ssm-analysis: {message}")
    assert contents() == ["file", "folder.png"]
    assert Path("file").read_text() == "mine"


@pytest.mark.parametrize("which", ["folder", "file"])
def test_what_may_not_be_written_is_found_out_before_the_work(capsys, monkeypatch, which):
    """Root may write everywhere, so the permission is taken away by hand."""
    Path("old.png").write_bytes(b"old")
    forbidden = Path("old.png" if which == "file" else ".").resolve()
    really = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).resolve() != forbidden and really(path, mode))
    monkeypatch.setattr("ssm_analysis.studies.initialization.initial_eigenvalues", lambda *a, **k: pytest.fail("worked"))
    message = refused(capsys, "figure", *SMALL, "--out", "old.png")
    assert message == "ssm-analysis: --out must be writable, got 'old.png': there is no permission to write it\n"
    assert Path("old.png").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(capsys):
    Path("locked").mkdir(mode=0o555)
    assert "--out must be writable" in refused(capsys, "figure", *SMALL, "--out", "locked/picture.png")


def test_a_failure_while_writing_leaves_the_older_picture(capsys, monkeypatch):
    Path("old.png").write_bytes(b"old")

    def full(self, path, **keywords):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    assert refused(capsys, "figure", *SMALL, "--out", "old.png") == "ssm-analysis: [Errno 28] No space left on device\n"
    assert Path("old.png").read_bytes() == b"old"
    assert contents() == ["old.png"]


def test_a_picture_replaces_the_older_one_and_follows_links():
    Path("real.png").write_bytes(b"old")
    Path("link.png").symlink_to("real.png")
    save(Figure(), Path("link.png"))
    assert Path("link.png").is_symlink()
    assert Path("real.png").read_bytes().startswith(MAGIC[".png"])
    assert contents() == ["link.png", "real.png"]


# help


@pytest.mark.parametrize(("argv", "words"), [
    (["--help"], ["figure", "families", "unit disk", "Table 1"]),
    (["figure", "--help"], ["--families", "--state-size", "--d-model", "--seed", "--out", "--json", *FAMILIES]),
    (["families", "--help"], ["--json"]),
    (["--version"], [f"ssm-analysis {ssm_analysis.__version__}"]),
])  # fmt: skip
def test_help(capsys, argv, words):
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert all(word in out for word in words)


def test_the_module_is_the_program():
    run = subprocess.run([sys.executable, "-m", "ssm_analysis", "--version"], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout == f"ssm-analysis {ssm_analysis.__version__}\n"
    wrong = [sys.executable, "-m", "ssm_analysis", "figure", "--out", "x.bmp"]
    refusal = subprocess.run(wrong, capture_output=True, text=True, timeout=120, check=False)
    assert refusal.returncode == 2
    assert refusal.stderr.startswith("ssm-analysis: --out must end in")


@pytest.mark.skipif(os.name != "posix", reason="needs a shell with pipes")
@pytest.mark.parametrize("command", ["families", "figure --json --families s4d --d-model 40"])
def test_a_reader_that_has_seen_enough_is_no_error(command):
    """One answer fits the buffer of the pipe, the other does not."""
    script = f"{sys.executable} -m ssm_analysis {command} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=True)
    assert run.stdout in ("0\n", "141\n")  # whether the reader was gone before the last line is a race
    assert run.stderr == ""
