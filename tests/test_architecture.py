"""What the source imports: nothing undeclared, and no family that leans on another without a reason."""

import re
import sys
import tomllib
from importlib.metadata import packages_distributions

import pytest

from tests.metrics.imports import circles, external_imports, import_graph, room_circles
from tests.metrics.source import ROOT, read_package

REASONS = {
    ("s4d", "s4"): "both come from one repository, which stores them under the same keys",
    ("mamba2", "s6"): "Mamba-2 keeps the step, the gate and several layouts of Mamba",
}
"""Families that import another one, and why."""


@pytest.fixture(scope="module")
def files():
    return read_package()


@pytest.fixture(scope="module")
def graph(files):
    return import_graph(files)


def declared():
    """Return the names of the distributions that the package requires, the extras of its users included."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: needs for name, needs in project["optional-dependencies"].items() if name != "dev"}
    requirements = [*project["dependencies"], *(need for needs in extras.values() for need in needs)]
    return {canonical(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_everything_imported_is_a_dependency_or_an_extra(files):
    known = packages_distributions()
    needs = declared()
    imported = {name: places for name, places in external_imports(files).items() if name not in sys.stdlib_module_names}
    assert {"numpy", "torch", "flint"} <= imported.keys(), "the walk over the source finds too little"
    undeclared = {name: places for name, places in imported.items() if not {canonical(each) for each in known.get(name, [name])} & needs}
    assert undeclared == {}, "add it to dependencies or to an extra in pyproject.toml, with its reason"


def test_every_dependency_is_imported(files):
    known = packages_distributions()
    imported = {canonical(each) for name in external_imports(files) for each in known.get(name, [name])}
    assert declared() - imported == set(), "nothing imports it: remove it from pyproject.toml"


def test_circles_are_found():
    """The search itself, on graphs of which the answer is known."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": set()}) == []
    assert room_circles({"p.a.x": {"p.b.y"}, "p.b.y": set(), "p.b.z": {"p.a.w"}, "p.a.w": set()}) == [["p.a", "p.b"]]


def test_families_stand_alone(graph):
    rooms = "ssm_analysis.families."
    pairs = {
        (source.split(".")[2], target.split(".")[2])
        for source, targets in graph.items()
        for target in targets
        if source.startswith(rooms) and target.startswith(rooms)
    }
    between = {(source, target) for source, target in pairs if source != target and target not in {"base", "shared"} and source != "base"}
    assert between <= REASONS.keys(), "what two families share belongs into families/shared; else give the reason in REASONS"
