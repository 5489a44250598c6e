"""What the tests of inspection, export and comparison share: layers that look trained, stored under the names of their families."""

from dataclasses import replace

import numpy as np

from ssm_analysis import FAMILIES, Layer, inspect
from tests.support.every_family import row_of

NAME = "blocks.3.mixer"
SIZES = {
    "s4": {"d_model": 3, "d_state": 4},
    "s4d": {"d_model": 3, "d_state": 8},
    "s5": {"d_model": 3, "d_state": 8},
    "lru": {"d_model": 3, "d_state": 8},
    "s6": {"d_model": 4, "d_state": 3},
    "rg_lru": {"d_model": 4},
    "mamba2": {"d_model": 8, "d_state": 4, "headdim": 4},
}
"""Arguments of the initialization of each family, small enough for every test."""


def sizes_of(family: str) -> dict[str, int]:
    """Return the sizes of the small layers of a family."""
    return row_of(SIZES, family, "SIZES in tests/support/stored_layers.py")


def fresh(family: str, **options: object) -> Layer:
    """A small layer as its initialization leaves it, under the name that all have here."""
    return replace(FAMILIES[family].init(**sizes_of(family), **options), name=NAME)


def trained(family: str, **options: object) -> Layer:
    """A layer none of whose parameters is fresh any more."""
    rng = np.random.default_rng(11)
    layer = fresh(family, **options)

    def moved(x: np.ndarray) -> np.ndarray:
        return x + 0.05 * rng.standard_normal(x.shape) * (1 + np.abs(x))

    return layer.map(moved)


def stored(layer: Layer, **changes: object) -> dict[str, np.ndarray]:
    """Its tensors by name, some of them changed: an array, or a function of what is there."""
    tensors = {name: np.array(x) for name, x in layer.params.items()}
    for name, change in changes.items():
        leaf = next(leaf for leaf in tensors if leaf.replace(".", "_") == name)
        tensors[leaf] = np.asarray(change(tensors[leaf]) if callable(change) else change)
    return {f"{layer.name}.{name}": x for name, x in tensors.items()}


def entry(index: int | tuple[int, ...], value: float):
    """A change of one entry."""

    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[index] = value
        return x

    return change


def one_row(source, **how):
    """The row of the only layer."""
    (row,) = inspect(source, **how)
    return row


def printed(table):
    """A table of rich as text."""
    from rich.console import Console

    console = Console(width=400, markup=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()
