"""Bytes of a file, anywhere in it, and only as many as it has."""

import stat
import threading
from pathlib import Path
from types import TracebackType

from ssm_analysis.checkpoint.store import CheckpointError

UNWARRANTED = 64 * 2**20
"""Bytes that any file may fill in memory, however small it is (a tensor of zeros compresses to nothing)."""
EXPANSION = 100
"""How many times its stored size a larger tensor may have. Trained weights compress less than 2:1, floats of few digits 10:1;
deflate reaches 1032:1 and a repeated zero in a torch file any ratio, which is how a small file fills a machine."""


class BinaryFile:
    """A regular file read at any offset, by several threads; a context manager.

    Reading and not mapping: a mapped file that shrinks kills the process when it is touched.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = file_size(path)
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise CheckpointError(f"cannot be opened: {error.strerror or error}", path=path) from error
        self._lock = threading.Lock()

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly ``size`` bytes from ``offset``; a CheckpointError where the file ends before."""
        if min(offset, size) < 0 or offset + size > self.size:
            raise CheckpointError(
                f"is cut off or damaged: it has {self.size} bytes, {offset} to {offset + size} are wanted", path=self.path
            )
        try:
            with self._lock:
                self._file.seek(offset)
                data = self._file.read(size)
        except OSError as error:
            raise CheckpointError(f"cannot be read: {error.strerror or error}", path=self.path) from error
        if len(data) < size:
            raise CheckpointError("became shorter while it was read", path=self.path)
        return data

    def __enter__(self) -> "BinaryFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def file_size(path: Path) -> int:
    """Return bytes of a regular file that is not empty; a CheckpointError for everything else, a pipe or a device for instance."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError) and path.is_symlink():
            raise CheckpointError(f"is a link to {str(path.readlink())!r}, which does not exist", path=path) from error
        raise CheckpointError(f"cannot be opened: {getattr(error, 'strerror', None) or error}", path=path) from error
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError("is not a regular file", path=path)
    if status.st_size == 0:
        raise CheckpointError("is empty", path=path)
    return status.st_size


def check_warranted(nbytes: int, stored: int, *, path: Path, tensor: str) -> None:
    """Raise a CheckpointError if a tensor would fill far more memory than what is stored of it."""
    if nbytes > max(UNWARRANTED, EXPANSION * stored):
        raise CheckpointError(
            f"claims {nbytes / 2**20:,.0f} MiB of which {stored / 2**20:,.3f} MiB are stored; no trained weights compress like that",
            path=path,
            tensor=tensor,
        )
