"""How cost and memory grow with channels, states and tokens."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ssm_analysis as ssm
from benchmarks.measure import best_of
from benchmarks.systems import s4d_lin

AXES: dict[str, tuple[tuple[int, ...], Callable[[int], Callable[[], Any]]]] = {
    "channels, N = 64: frequency response at 64 points": (
        (1, 16, 256, 4_096, 65_536),
        lambda n: _response(s4d_lin(n), 64),
    ),
    "states, 64 channels: Hankel singular values": ((16, 32, 64, 128, 256), lambda n: _hsv(s4d_lin(64, n // 2))),
    "tokens, 64 channels, N = 64: simulation": (tuple(2**k for k in range(10, 18)), lambda n: _simulation(s4d_lin(64), n)),
}


def _response(sys: ssm.RealDiagonalSSM, points: int) -> Callable[[], Any]:
    return lambda: ssm.frequency_response(sys, np.linspace(0, np.pi, points))


def _hsv(sys: ssm.RealDiagonalSSM) -> Callable[[], Any]:
    return lambda: ssm.hsv(sys)


def _simulation(sys: ssm.RealDiagonalSSM, length: int) -> Callable[[], Any]:
    u = np.random.default_rng(0).standard_normal((length, 64, 1))
    return lambda: ssm.simulate(sys, u)


def measure_one(axis: str, size: int) -> tuple[float, float]:
    """Seconds, and peak memory of this process in MB."""
    run = AXES[axis][1](size)
    seconds = best_of(run, 2)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table() -> str:
    """Markdown; each size in a process of its own, so that its peak memory is its own."""
    lines = ["| axis | size | s | peak memory, MB |", "|---|---|---|---|"]
    for axis, (sizes, _) in AXES.items():
        for size in sizes:
            answer = subprocess.run(
                [sys.executable, "-m", "benchmarks.growth", axis, str(size)],
                capture_output=True,
                text=True,
                check=True,
                cwd=Path(__file__).parents[1],
            )
            seconds, memory = answer.stdout.split()
            lines.append(f"| {axis} | {size:,} | {float(seconds):.3g} | {float(memory):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(*measure_one(sys.argv[1], int(sys.argv[2])))
