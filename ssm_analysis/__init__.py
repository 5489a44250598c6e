"""Control theory for neural state-space models.

A family (S4, S4D, S5, LRU, S6, RG-LRU) makes layers, a layer is exported to a linear system, and every
analysis is a function of systems.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
