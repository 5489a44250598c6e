"""Functions from a system to an array or to a frozen result, one folder for each kind of question; loaded when first used."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules={"along", "gramians", "memory", "nonnormal", "norms", "reduction", "responses", "spectrum"}
)
