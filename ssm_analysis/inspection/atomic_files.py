"""Files that are there whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Write a file beside its place first and move it there when it is whole, so that a failure leaves what was there before.

    The file beside has a random name that nobody else can have taken, the mode of the file that it replaces, or that of a new file,
    and the suffix of its place. A link keeps pointing where it does.

    Parameters
    ----------
    path
        The place.
    write
        Writes the file whose path it is given, which exists and is empty.

    Returns
    -------
    Path
        ``path``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from ssm_analysis.inspection.atomic_files import write_atomically
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder) / "a.txt", lambda part: part.write_text("whole")).read_text()
    'whole'
    """
    place = path.resolve()
    handle, name = tempfile.mkstemp(prefix=".", suffix=place.suffix, dir=place.parent)
    os.close(handle)
    part = Path(name)
    try:
        if place.exists():
            shutil.copymode(place, part)
        else:
            part.chmod(0o666 & ~_umask())
        write(part)
        part.replace(place)
    finally:
        part.unlink(missing_ok=True)
    return path


def _umask() -> int:
    """Return the bits that new files do without; there is no way to ask but to set them."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
