"""Docstrings that do not open with a sentence.

A function's docstring opens with a verb in the imperative ("Return", "Read", "Bound"), from the closed list in ``verbs.py``.
What names a thing (modules, classes, properties, variables) may open with a noun phrase. No docstring opens with a word that
leaves the reader to guess the noun, as "Of the search." does.
"""

import ast
import re
from collections.abc import Iterator

from .source import File, Function, docstring
from .verbs import ALSO_NOUNS, DETERMINERS, VERBS

FRAGMENT_OPENERS = frozenset(
    """
    about after against and as at because before between beyond but by except for from how in inside instead into its itself like nor
    of on or out over per since than that their then those through till together too under unless until what whatever when where wherever
    which who whose why with within without
    """.split()  # noqa: SIM905 - words are read more easily than a column of strings
)
"""First words of a fragment, in lower case."""

FRAGMENT_OPENINGS = ("the same of", "the same for", "the same as", "the same with", "all that", "both of")


def fragments(files: list[File], functions: list[Function]) -> list[str]:
    """Return the places of docstrings of any kind that open with a fragment."""
    named = [(file.place(line), text) for file in files for line, text in _names_of_things(file)]
    called = [(function.place, docstring(function.node)) for function in functions]
    return [f"{place}: {_opening(text)}" for place, text in [*named, *called] if text and _is_fragment(text)]


def without_imperative(functions: list[Function]) -> list[str]:
    """Return the places of functions whose docstring opens neither with a verb nor, for a property, with a noun phrase."""
    texts = [(function, docstring(function.node)) for function in functions if not function.decorators & {"property", "cached_property"}]
    return [f"{function.place}: {_opening(text)}" for function, text in texts if text and not _is_imperative(text)]


def _names_of_things(file: File) -> Iterator[tuple[int, str]]:
    """Yield line and text of the docstrings of a module, its classes, and the variables and fields in both."""
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.Module | ast.ClassDef):
            continue
        text = docstring(node)
        if text is not None:
            yield (node.lineno if isinstance(node, ast.ClassDef) else 1), text
        for statement, following in zip(node.body, node.body[1:], strict=False):
            if isinstance(statement, ast.Assign | ast.AnnAssign) and _is_text(following):
                yield following.lineno, ast.literal_eval(ast.unparse(following)).strip()


def _is_text(node: ast.stmt) -> bool:
    """Return whether a statement is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_fragment(text: str) -> bool:
    """Return whether the first words of a docstring are those of a fragment."""
    first = _first_word(text).lower()
    return first in FRAGMENT_OPENERS or text.lower().startswith(FRAGMENT_OPENINGS)


def _is_imperative(text: str) -> bool:
    """Return whether the first word of a docstring is a verb in the imperative."""
    first = _first_word(text).lower()
    if first not in ALSO_NOUNS:
        return first in VERBS
    second = text.split()[1:2]
    return not second or second[0].lower() in DETERMINERS or not second[0][0].isalpha()


def _first_word(text: str) -> str:
    """Return the first word without punctuation, hyphens kept; empty where the text opens with a formula."""
    word = text.split(maxsplit=1)[0] if text.split() else ""
    return word.rstrip(".,:;") if re.fullmatch(r"[A-Za-z][A-Za-z-]*[.,:;]?", word) else ""


def _opening(text: str) -> str:
    """Return the first line, shortened."""
    line = text.splitlines()[0]
    return line if len(line) <= 80 else line[:77] + "..."
