"""How much memory a process fills, by the books of Linux: ``getrusage`` begins with the peak of the process that started it."""

from pathlib import Path

import pytest

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
needs_books = pytest.mark.skipif(not STATUS.exists(), reason="the memory of a process is measured on Linux only")


def peak():
    """The most it has filled since it began or ``forget_peak`` was called, in MB (2^20 bytes)."""
    return next(int(line.split()[1]) / 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def forget_peak():
    CLEAR.write_text("5")
