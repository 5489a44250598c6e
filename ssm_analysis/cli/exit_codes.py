"""What the program says to other programs."""

PROVED = 0
"""Done; for ``verify``: all is proved."""
REFUTED = 1
"""``verify``: something is refuted or invalid."""
USAGE = 2
"""Wrong usage, or nothing that can be read."""
UNDECIDED = 3
"""``verify``: something is undecided, and nothing refuted."""
INTERNAL = 70
"""An error of the program itself."""
INTERRUPTED = 130
"""Stopped from the keyboard."""
CLOSED_PIPE = 141
"""Whoever reads the output has seen enough; a verdict of ``verify`` goes before it."""
