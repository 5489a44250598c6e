"""Results as plain data: numbers of Python, lists, dictionaries, as JSON and pandas take them."""

import math
from typing import Any

import numpy as np


def plain(x: Any) -> Any:
    """Return numbers of Python for those of numpy, lists for tuples."""
    if isinstance(x, np.generic):
        return x.item()
    return [plain(item) for item in x] if isinstance(x, tuple | list) else x


def finite(x: Any) -> Any:
    """Return the same data with None for NaN and infinity, which JSON does not know."""
    if isinstance(x, dict):
        return {name: finite(entry) for name, entry in x.items()}
    if isinstance(x, tuple | list):
        return [finite(entry) for entry in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x
