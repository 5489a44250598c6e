"""The package as syntax trees: files, functions and what else the metrics count."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder of the repository."""

PACKAGE = ROOT / "ssm_analysis"

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, eq=False, kw_only=True)
class File:
    """One source file, parsed."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def module(self) -> str:
        """Dotted name of the module; a package goes by the name of its folder."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def is_package(self) -> bool:
        """Whether the file is an ``__init__.py``."""
        return self.path.name == "__init__.py"

    def place(self, line: int) -> str:
        """Return ``path:line``, relative to the repository."""
        return f"{self.path.relative_to(ROOT)}:{line}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Function:
    """One function or method, and the classes and functions around it."""

    file: File
    node: FunctionNode
    parents: tuple[ast.AST, ...]

    @property
    def place(self) -> str:
        """``path:line name``."""
        return f"{self.file.place(self.node.lineno)} {self.node.name}"

    @property
    def lines(self) -> int:
        """Number of lines from ``def`` to the end."""
        return (self.node.end_lineno or self.node.lineno) - self.node.lineno + 1

    @property
    def lines_of_code(self) -> int:
        """The same number without the docstring."""
        first = self.node.body[0]
        return self.lines - ((first.end_lineno or first.lineno) - first.lineno + 1 if docstring(self.node) is not None else 0)

    @property
    def parameters(self) -> list[ast.arg]:
        """Named parameters, without ``self`` and ``cls``."""
        of_call = self.node.args
        named = [*of_call.posonlyargs, *of_call.args, *of_call.kwonlyargs]
        bound = self.is_method and "staticmethod" not in self.decorators
        return named[1:] if bound else named

    @property
    def is_method(self) -> bool:
        """Whether it stands directly in a class."""
        return bool(self.parents) and isinstance(self.parents[-1], ast.ClassDef)

    @property
    def is_nested(self) -> bool:
        """Whether it stands in another function."""
        return any(isinstance(parent, FunctionNode) for parent in self.parents)

    @property
    def is_public(self) -> bool:
        """Whether neither its name nor the name of its class begins with an underscore."""
        names = [self.node.name, *(parent.name for parent in self.parents if isinstance(parent, ast.ClassDef))]
        return not self.is_nested and not any(name.startswith("_") for name in names)

    @property
    def decorators(self) -> set[str]:
        """Last parts of the names of its decorators, e.g. ``property``."""
        called = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in self.node.decorator_list]
        return {ast.unparse(decorator).rpartition(".")[2] for decorator in called}


def read_package(folder: Path = PACKAGE) -> list[File]:
    """Parse every Python file below the folder, in the order of their paths."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}
    return [File(path=path, text=text, tree=ast.parse(text)) for path, text in texts.items()]


def functions_of(files: list[File]) -> list[Function]:
    """List all functions and methods, nested ones too, but for the overloads of one function."""
    functions = [function for file in files for function in _functions_below(file, file.tree, ())]
    return [function for function in functions if "overload" not in function.decorators]


def docstring(node: ast.AST) -> str | None:
    """Return the docstring of a module, class or function, or None."""
    return ast.get_docstring(node) if isinstance(node, ast.Module | ast.ClassDef | FunctionNode) else None


def _functions_below(file: File, node: ast.AST, parents: tuple[ast.AST, ...]) -> Iterator[Function]:
    """Yield the functions in a node, outer ones first."""
    for child in ast.iter_child_nodes(node):
        inner = parents
        if isinstance(child, FunctionNode):
            yield Function(file=file, node=child, parents=parents)
        if isinstance(child, FunctionNode | ast.ClassDef):
            inner = (*parents, child)
        yield from _functions_below(file, child, inner)
