"""What every container gives: names, shapes and stored precisions at once, the numbers of one tensor when asked."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from os import PathLike
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

import numpy as np

from ssm_analysis.checkpoint.precision import lift
from ssm_analysis.checkpoint.problems import as_problem


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or not in full where a part was asked for; says which file, which tensor, and what to do."""

    def __init__(self, complaint: str, *, path: str | PathLike[str] = "", tensor: str | None = None) -> None:
        place = [str(path)] if str(path) else []
        place += [f"tensor {tensor!r}"] if tensor is not None else []
        super().__init__(": ".join([*place, complaint]))


@dataclass(frozen=True, eq=False, kw_only=True)
class TensorStore:
    """Named tensors of one checkpoint, opened but not read. A context manager; ``close`` lets go of its files.

    Parameters
    ----------
    shapes
        Shape by name. Names are as stored; levels of a nested tree are joined by "/".
    dtypes
        Stored precision by name: "bfloat16", "float32", "complex64", ...
    fetch
        The stored array of one of these names, in a dtype of numpy or ml_dtypes.
    description
        Which container, of how many files and tensors.
    source
        Path for messages; empty for what never was a file.
    hyper_parameters
        What the training program stored beside the weights (Lightning's ``hyper_parameters``), as plain data.
    config
        The ``config.json`` that lies with the weights.
    problems
        What is missing, was left out or was chosen; empty for a whole checkpoint. Every entry becomes a `Problem`.
    resources
        What ``close`` closes.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    fetch: Callable[[str], np.ndarray]
    description: str
    source: str = ""
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    resources: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        assert self.shapes.keys() == self.dtypes.keys()
        if not self.shapes:
            self.resources.close()
            raise CheckpointError("; ".join(["holds no tensors that could be read", *self.problems]), path=self.source)
        object.__setattr__(self, "problems", tuple(as_problem(problem) for problem in self.problems))
        for name in ("shapes", "dtypes", "hyper_parameters", "config"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def read(self, name: str) -> np.ndarray:
        """Return the numbers of one tensor, lifted exactly to 64 bits; integers and booleans stay what they are.

        Nothing else is read. float16, bfloat16, float32 and the 8-bit floats become float64, complex64 becomes complex128. The array is
        the caller's own.

        Raises
        ------
        CheckpointError
            If there is no such tensor, or its data is damaged.
        """
        if name not in self.shapes:
            near = get_close_matches(name, self.shapes, n=3)
            hint = f"; near it: {', '.join(map(repr, near))}" if near else f"; it has {few(self.shapes)}"
            raise CheckpointError(f"no such tensor{hint}", path=self.source, tensor=name)
        x = np.require(lift(self.fetch(name)), requirements="W")
        if x.shape != self.shapes[name]:
            raise CheckpointError(f"has shape {x.shape}, its header says {self.shapes[name]}", path=self.source, tensor=name)
        return x

    def close(self) -> None:
        """Let go of the files; a second time does nothing."""
        self.resources.close()
        object.__setattr__(self, "fetch", self._refuse)

    def _refuse(self, name: str) -> NoReturn:
        raise CheckpointError("the checkpoint is closed; read inside the with block", path=self.source, tensor=name)

    def __enter__(self) -> "TensorStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        problems = f", {len(self.problems)} problem{'s' * (len(self.problems) > 1)}" if self.problems else ""
        return f"TensorStore({self.description}{problems})"


def few(names: Iterable[str]) -> str:
    """Return the first names of many, quoted."""
    names = list(names)
    rest = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name if len(name) <= 200 else name[:200] + "...") for name in names[:5]) + rest
