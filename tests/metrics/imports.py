"""Who imports whom in the package, imports inside functions included, and the circles in it."""

import ast
from collections.abc import Iterator, Mapping, Set

from .source import File

Graph = Mapping[str, Set[str]]


def import_graph(files: list[File]) -> dict[str, set[str]]:
    """Map every module to the modules of the package that it imports.

    Imports inside functions count; those under ``if TYPE_CHECKING:`` never run and do not.
    An import of a name is an import of the submodule of that name if there is one, else of the package.
    """
    modules = {file.module for file in files}
    return {file.module: {target for target in _imported(file, modules) if target != file.module} for file in files}


def external_imports(files: list[File]) -> dict[str, list[str]]:
    """Map the first part of every module imported from outside the package to the places that import it."""
    places: dict[str, list[str]] = {}
    for file in files:
        for node in _running_nodes(file.tree):
            for name in _absolute_names(node):
                places.setdefault(name.partition(".")[0], []).append(file.place(node.lineno))
    return {name: where for name, where in places.items() if name != "ssm_analysis"}


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of at least two nodes that reach each other."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {frozenset({node, *(other for other in reached[node] if node in reached.get(other, ()))}) for node in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def room_circles(graph: Graph) -> list[list[str]]:
    """Return the circles among the children of each package, every child taken with all that is in it."""
    packages = {name[:end] for name in graph for end, letter in enumerate(name) if letter == "."}
    return [circle for package in sorted(packages) for circle in circles(_children(graph, package))]


def _children(graph: Graph, package: str) -> dict[str, set[str]]:
    """Contract the graph to the direct children of a package."""
    depth = package.count(".") + 2
    inside = [name for name in graph if name.startswith(package + ".")]
    contracted: dict[str, set[str]] = {}
    for name in inside:
        room = ".".join(name.split(".")[:depth])
        targets = {".".join(target.split(".")[:depth]) for target in graph[name] if target.startswith(package + ".")}
        contracted.setdefault(room, set()).update(targets - {room})
    return contracted


def _reachable(graph: Graph, start: str) -> set[str]:
    """Return the nodes that can be reached from ``start`` along at least one arrow."""
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in seen:
            seen.add(node)
            waiting += graph.get(node, ())
    return seen


def _imported(file: File, modules: set[str]) -> Iterator[str]:
    """Yield the modules of the package that a file imports."""
    for node in _running_nodes(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            base = _base(file, node)
            if base in modules:
                for alias in node.names:
                    yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base


def _base(file: File, node: ast.ImportFrom) -> str:
    """Return the absolute name of what stands between ``from`` and ``import``."""
    if node.level == 0:
        return node.module or ""
    parts = file.module.split(".")
    kept = len(parts) - node.level + (1 if file.is_package else 0)
    return ".".join([*parts[:kept], *([node.module] if node.module else [])])


def _absolute_names(node: ast.AST) -> list[str]:
    """Return the names of the modules that an absolute import names, none for any other node."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        return [node.module]
    return []


def _running_nodes(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a tree but for those under ``if TYPE_CHECKING:``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.stmt):
            yield child
        yield from _running_nodes(child)
