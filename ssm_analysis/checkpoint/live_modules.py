"""What a live torch module says about a layer beside its weights: the attributes of the modules that hold them."""

from collections.abc import Mapping
from typing import Any

from ssm_analysis.checkpoint.containers.in_memory import settings_of

PLAIN = (bool, int, float, str)
MOST_NUMBERS = 100_000
"""In a buffer that is looked at: the factors on the rows of an in_proj are a few ten thousand, tables of positions more."""


def module_settings(module: Any, path: str) -> Mapping[str, Any]:
    """Return plain attributes of the module at ``path``, those of its parts below "parts", and its class as "module_class".

    Before them the configurations of the modules around it, the nearest last: a model of transformers may stand inside another
    module. Functions stand as their names, since some modules keep the choice between two rules as the function that carries it out.
    """
    here, around = module, dict(settings_of(getattr(module, "config", None)))
    for step in filter(None, path.split(".")):
        here = here._modules.get(step)
        if here is None:  # the path leads through a container of tensors
            return around
        around |= settings_of(getattr(here, "config", None))
    parts = {name: _plain(part) for name, part in here.named_modules() if name}
    return {**around, **_plain(here), "parts": parts, "module_class": type(here).__name__}


def _plain(module: Any) -> dict[str, Any]:
    plain = {}
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, PLAIN) or (isinstance(value, list | tuple) and all(isinstance(x, PLAIN) for x in value)):
            plain[name] = value
        elif callable(value) and hasattr(value, "__name__"):
            plain[name] = value.__name__
    buffers = {name: module._buffers[name] for name in module._non_persistent_buffers_set}  # in no state dict
    numbers = {name: x for name, x in buffers.items() if x is not None and x.is_floating_point() and x.numel() <= MOST_NUMBERS}
    return plain | {name: tuple(x.flatten().tolist()) for name, x in numbers.items()}
