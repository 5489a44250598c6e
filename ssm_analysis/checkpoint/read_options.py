"""How a checkpoint is read: one value that goes from the public functions down to the tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from ssm_analysis.families.shared.layouts import Layout


class ReadKeywords(TypedDict, total=False):
    """The keyword arguments of every public function that reads a checkpoint; see `ReadOptions`."""

    family: str | None
    assume: Mapping[str, Any] | None
    config: Mapping[str, Any] | None
    layouts: Sequence[Layout]


@dataclass(frozen=True, eq=False, kw_only=True)
class ReadOptions:
    """What the caller says about a checkpoint.

    Parameters
    ----------
    family
        Key in ``FAMILIES``: only layers of this one are looked for.
    assume
        What weights do not store, under the option names of the original code: ``{"dt_transform": "softplus"}``. The caller wins
        over the files; what was assumed, and from where, is in ``layer.assumptions``.
    config
        A configuration in the place of the one that lies with the weights.
    layouts
        Layouts of one's own, which are tried before those of the families.

    Raises
    ------
    TypeError
        If a keyword is unknown, or ``assume`` or ``config`` is no mapping.
    """

    family: str | None = None
    assume: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    layouts: Sequence[Layout] = field(default=())

    def keywords(self) -> ReadKeywords:
        """Return the same as keyword arguments of the public functions."""
        return {"family": self.family, "assume": self.assume, "config": self.config, "layouts": self.layouts}

    def __post_init__(self) -> None:
        for name in ("assume", "config"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Mapping):
                raise TypeError(f"{name} must be a mapping of names to values, got {type(value).__name__}")
