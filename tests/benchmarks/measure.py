"""Time a job against its peers in one run, on one thread, and print the ratios."""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way of doing a job. A peer that loops over systems may do ``part`` of the whole; its time is scaled up."""

    name: str
    run: Callable[[], Any]
    part: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, ours first."""

    name: str
    ours: Contender
    peers: Sequence[Contender]
    target: str
    """What has to be reached, in words."""
    accuracy: Callable[[], str]
    """Measured against something independent."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured."""

    job: str
    ours_s: float
    peer: str
    peer_s: float
    accuracy: str
    target: str

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_s / self.ours_s


def measure(job: Job, *, rounds: int = 5) -> list[Row]:
    """Best of ``rounds`` for ours, taken in turn with each peer so that both see the same machine."""
    rows = []
    accuracy = job.accuracy()
    for peer in job.peers:
        ours, theirs = [], []
        slow = best_of(peer.run, 1)
        for _ in range(rounds if slow < 2 else 1):
            ours.append(best_of(job.ours.run, 2))
            theirs.append(best_of(peer.run, 1) / peer.part)
        rows.append(
            Row(
                job=job.name,
                ours_s=min(ours),
                peer=peer.name,
                peer_s=min([slow / peer.part, *theirs]),
                accuracy=accuracy,
                target=job.target,
            )
        )
    return rows


def best_of(run: Callable[[], Any], count: int) -> float:
    """The shortest of ``count`` runs, in seconds."""
    times = []
    for _ in range(count):
        gc.collect()
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def as_table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = ["| job | ours, s | peer | peer, s | ratio | wanted | accuracy of ours |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.job} | {row.ours_s:.3g} | {row.peer} | {row.peer_s:.3g} | {row.ratio:,.3g}x | {row.target} | {row.accuracy} |"
        )
    return "\n".join(lines)
