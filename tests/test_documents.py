"""The code in README.md and CONTRIBUTING.md runs, and what they point at exists."""

import re
import runpy
import shlex
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

import ssm_analysis as ssm
from ssm_analysis.cli import main

ROOT = Path(__file__).parents[1]


def blocks(document, language):
    """Return the code blocks of one language in a document, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(document):
    """Return the arguments of every ``ssm-analysis`` command in a document."""
    lines = "\n".join(blocks(document, "sh")).splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("ssm-analysis ")]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder to write into, and families as they were afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(ssm.FAMILIES, "leaky", raising=False)
    yield tmp_path
    ssm.FAMILIES.pop("leaky", None)


@pytest.fixture
def trained_model(workplace):
    """The checkpoints that the README opens: two layers of Mamba, before and after."""
    for seed, name in enumerate(["my_model", "my_model_start"]):
        Path(name).mkdir()
        params = {}
        for depth in range(2):
            layer = ssm.FAMILIES["s6"].init(d_model=8, seed=seed + depth)
            params |= {f"backbone.layers.{depth}.mixer.{key}": value for key, value in layer.params.items()}
            params |= {f"backbone.layers.{depth}.norm.weight": np.ones(8)}
        np.savez(f"{name}/model.npz", **params)
    np.save("u.npy", np.random.default_rng(0).standard_normal((12, 8)))
    return workplace


def test_the_family_of_contributing_is_inspected_verified_and_drawn(workplace, capsys):
    """From the page alone: save the file, run the check, run the commands."""
    family, check = blocks("CONTRIBUTING.md", "python")
    Path("leaky.py").write_text(family, encoding="utf-8")
    Path("check.py").write_text(check, encoding="utf-8")
    runpy.run_path("check.py")
    inspect, verify, plot = commands("CONTRIBUTING.md")
    assert main(inspect) == 0
    assert "blocks.0" in capsys.readouterr().out
    assert main(verify) == 0
    assert "proved" in capsys.readouterr().out
    assert main(plot) == 0
    assert list(workplace.glob("*.png"))


def test_the_certificate_of_contributing_holds_against_adversaries(workplace, rng):
    """Inputs of norm 3, random and aimed at one channel, up to the rounding of the scan; the rate is attained at the worst of them."""
    Path("leaky.py").write_text(blocks("CONTRIBUTING.md", "python")[0], encoding="utf-8")
    family = runpy.run_path("leaky.py")["FAMILY"]
    ssm.FAMILIES["leaky"] = family
    layer = family.init(d_model=4, seed=3)
    by_name = {certificate.property: certificate for certificate in ssm.verify(layer, input_radius=3.0, dtypes=["fp32"])}
    rate = by_name["uniform_exponential_stability"].per_channel["slowest rate"]
    (largest,) = (each.upper for name, each in by_name["bounded_state"].quantities.items() if name.startswith("largest"))
    aimed = 3 * np.eye(4) * np.sign(layer.params["leak_weight"])
    noise = rng.standard_normal((2000, 4))
    for u in (3 * noise / np.linalg.norm(noise, axis=1, keepdims=True), *(np.tile(row, (2000, 1)) for row in (*aimed, *-aimed))):
        along = layer.along(u)
        assert np.all(-np.max(along.log_poles[..., 0], axis=0) >= rate * (1 - 1e-12))
        assert np.max(np.abs(ssm.simulate(along, layer.core_input(u)))) <= largest * (1 + 1e-12)
    slowest = [-layer.along(aimed[[k]]).log_poles[0, k, 0] for k in range(4)]
    np.testing.assert_allclose(rate, slowest, rtol=1e-12)


@pytest.fixture(autouse=True)
def _figures_are_closed():
    """What documents draw must not stay open for the tests that follow."""
    yield
    plt.close("all")


def test_python_of_the_readme_runs(trained_model):
    """All of it in order, as one reads it: later blocks use the names of earlier ones."""
    Path("readme.py").write_text("\n\n".join(blocks("README.md", "python")), encoding="utf-8")
    runpy.run_path("readme.py")


@pytest.mark.parametrize("arguments", commands("README.md"), ids=" ".join)
def test_commands_of_the_readme_run(arguments, trained_model, capsys):
    """A verdict may be anything but wrong usage."""
    assert main(arguments) in ((0, 1, 3) if arguments[0] == "verify" else (0,))
    assert capsys.readouterr().out


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/certificates.md"])
def test_links_lead_somewhere(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


def test_public_names_of_the_readme_exist():
    """Every ``ssm.name`` and ``ssm.room.name`` in a document is one of the package."""
    for document in ("README.md", "CONTRIBUTING.md", "docs/certificates.md", "docs/own_layers.md"):
        for path in set(re.findall(r"\bssm((?:\.[A-Za-z_]\w*)+)", (ROOT / document).read_text(encoding="utf-8"))):
            if "<" not in path:
                _resolve(document, path.strip(".").split("."))


def test_analyses_of_the_readme_exist():
    """Every name in the table of analyses, which leaves ``ssm.`` out."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"^\| question \|.*?\n\n", text, re.DOTALL | re.MULTILINE)
    assert table
    names = re.findall(r"`([\w.]+)`", table.group())
    assert len(names) > 50
    for name in names:
        _resolve("README.md", name.split("."))


def _resolve(document, names):
    """Follow the names from the package as far as they are attributes of modules."""
    value = ssm
    for name in names[:2]:
        if value is not ssm and not hasattr(value, "__path__") and not hasattr(value, "__file__"):
            return
        assert hasattr(value, name), f"{document}: ssm.{'.'.join(names)} does not exist"
        value = getattr(value, name)
