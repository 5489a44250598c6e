"""What is wrong with a checkpoint without keeping it from being read: a sentence for people, and its kind for programs."""

from enum import Enum


class ProblemKind(Enum):
    """What a problem means for those who count layers."""

    MISSING = "missing"
    """Files or tensors that the checkpoint itself names are not there or cannot be read: a layer may be lost."""
    NEAR_MISS = "near miss"
    """A group of tensors that looks like a recurrent layer and is none."""
    NOTE = "note"
    """Something was left out, chosen or repaired; no layer is lost by it."""


class Problem(str):
    """The sentence, which can be printed and joined as any text, with its kind.

    Parameters
    ----------
    kind
        Decides; the text never does.
    text
        The sentence.

    Examples
    --------
    >>> from ssm_analysis.checkpoint.problems import Problem, ProblemKind
    >>> problem = Problem(kind=ProblemKind.MISSING, text="missing: 2 tensors of the index")
    >>> problem.may_hide_a_layer, f"! {problem}"
    (True, '! missing: 2 tensors of the index')
    """

    __slots__ = ("kind",)
    kind: ProblemKind

    def __new__(cls, *, kind: ProblemKind, text: str) -> "Problem":
        """Make a sentence that knows its kind."""
        problem = super().__new__(cls, text)
        problem.kind = kind
        return problem

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, object]]:
        return (), {"kind": self.kind, "text": str(self)}

    @property
    def may_hide_a_layer(self) -> bool:
        """Whether a recurrent layer may exist that was not found."""
        return self.kind is not ProblemKind.NOTE


def as_problem(text: str) -> Problem:
    """Return a problem as it is, and a plain sentence as a note."""
    return text if isinstance(text, Problem) else Problem(kind=ProblemKind.NOTE, text=text)


def missing(text: str) -> Problem:
    """Return the problem of something that the checkpoint names and that is not there."""
    return Problem(kind=ProblemKind.MISSING, text=text)


def near_miss(text: str) -> Problem:
    """Return the problem of tensors that look like a layer and are none."""
    return Problem(kind=ProblemKind.NEAR_MISS, text=text)
