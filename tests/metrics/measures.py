"""Every figure that the project wants to keep, what it is and who misses it."""

import ast
import io
import statistics
import tokenize
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .docstrings import fragments, without_imperative
from .imports import circles, import_graph, room_circles
from .source import PACKAGE, File, Function, functions_of


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure: what was measured, the most or least that is wanted, and the places that stand in the way."""

    name: str
    measured: float
    wanted: float | None
    """The bound, or None for a figure that is only told."""
    at_least: bool = False
    """Whether the bound is the least that is wanted, not the most."""
    offenders: tuple[str, ...] = ()

    @property
    def is_met(self) -> bool:
        """Whether the figure is within its bound."""
        if self.wanted is None:
            return True
        return self.measured >= self.wanted if self.at_least else self.measured <= self.wanted


def measure(files: list[File]) -> list[Measure]:
    """Measure the whole package."""
    functions = functions_of(files)
    return [*_sizes_of_files(files), *_sizes_of_functions(functions), *_signatures(functions), *_house(files), *_words(files, functions)]


def _sizes_of_files(files: list[File]) -> list[Measure]:
    """Measure how long the files are."""
    lines = {file.place(1): file.text.count("\n") for file in files}
    filled = [count for count in lines.values() if count > 0]
    long = _longer(lines, 400)
    return [
        Measure(name="lines of a file, median", measured=statistics.median(filled), wanted=150),
        Measure(name="lines of a file, largest", measured=max(filled), wanted=400, offenders=long),
    ]


def _sizes_of_functions(functions: list[Function]) -> list[Measure]:
    """Measure how long the functions are, from ``def`` to the end, with and without their docstrings."""
    whole = {function.place: function.lines for function in functions}
    code = {function.place: function.lines_of_code for function in functions}
    return [
        Measure(name="lines of a function, median", measured=statistics.median(whole.values()), wanted=8),
        Measure(name="lines of a function, 90 %", measured=_percentile(whole.values(), 0.9), wanted=25),
        Measure(name="lines of a function, largest", measured=max(whole.values()), wanted=60, offenders=_longer(whole, 60)),
        Measure(name="... without docstring, median", measured=statistics.median(code.values()), wanted=None),
        Measure(name="... without docstring, 90 %", measured=_percentile(code.values(), 0.9), wanted=None),
        Measure(name="... without docstring, largest", measured=max(code.values()), wanted=40, offenders=_longer(code, 40)),
    ]


def _signatures(functions: list[Function]) -> list[Measure]:
    """Measure the number of parameters and how many public functions are annotated."""
    parameters = {function.place: len(function.parameters) for function in functions}
    public = [function for function in functions if function.is_public]
    bare = [function for function in public if not _is_annotated(function)]
    return [
        _count("functions with more than 10 parameters", _longer(parameters, 10), 0),
        _count("functions with more than 6 parameters", _longer(parameters, 6), 8),
        Measure(
            name="public functions annotated, %",
            measured=round(100 * (1 - len(bare) / len(public)), 1),
            wanted=100,
            at_least=True,
            offenders=tuple(function.place for function in bare),
        ),
    ]


def _house(files: list[File]) -> list[Measure]:
    """Measure the import graph, the rooms, the public names and the holes in the types."""
    graph = import_graph(files)
    rooms = sorted({file.path.relative_to(PACKAGE).parts[0] for file in files} - {"__init__.py", "__main__.py"})
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    names = [alias.asname or alias.name for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names]
    return [
        _count("import circles among modules, lazy imports included", [" <-> ".join(circle) for circle in circles(graph)], 0),
        _count("import circles among rooms, lazy imports included", [" <-> ".join(circle) for circle in room_circles(graph)], 0),
        _count("rooms on the top floor", rooms, 14),
        _count("flat public names", names, 65),
        _count("uses of Any", _tokens(files, _is_any), 150),
        _count("type: ignore", _tokens(files, _is_ignore), 10),
    ]


def _words(files: list[File], functions: list[Function]) -> list[Measure]:
    """Measure the first sentences of docstrings."""
    return [
        _count("docstrings that open with a fragment", fragments(files, functions), 0),
        _count("docstrings of functions that do not open with a verb in the imperative", without_imperative(functions), 0),
    ]


def _count(name: str, offenders: Iterable[str], wanted: int) -> Measure:
    """Return the measure that counts its own offenders."""
    places = tuple(offenders)
    return Measure(name=name, measured=len(places), wanted=wanted, offenders=places)


def _longer(sizes: dict[str, int], most: int) -> tuple[str, ...]:
    """Return the places whose size is larger than wanted, the largest first."""
    return tuple(f"{place}: {size}" for place, size in sorted(sizes.items(), key=lambda item: -item[1]) if size > most)


def _percentile(sizes: Iterable[int], share: float) -> int:
    """Return the smallest size that at least this share of the sizes do not exceed."""
    ordered = sorted(sizes)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _is_annotated(function: Function) -> bool:
    """Return whether all parameters and the result of a function have types."""
    of_call = function.node.args
    stars = [star for star in (of_call.vararg, of_call.kwarg) if star is not None]
    return function.node.returns is not None and all(parameter.annotation for parameter in [*function.parameters, *stars])


def _tokens(files: list[File], counts: Callable[[tokenize.TokenInfo], bool]) -> list[str]:
    """Return the places of the tokens that count."""
    return [
        f"{file.place(token.start[0])}: {token.line.strip()[:100]}"
        for file in files
        for token in tokenize.generate_tokens(io.StringIO(file.text).readline)
        if counts(token)
    ]


def _is_any(token: tokenize.TokenInfo) -> bool:
    """Return whether a token is the name Any, outside of the import that brings it."""
    return token.type == tokenize.NAME and token.string == "Any" and "import" not in token.line.split()


def _is_ignore(token: tokenize.TokenInfo) -> bool:
    """Return whether a token is a comment that silences a type checker."""
    return token.type == tokenize.COMMENT and ("type: ignore" in token.string or "pyright: ignore" in token.string)
