"""``make benchmarks``: every job beside its peers, in one run on one thread; prints the tables of tests/benchmarks/README.md."""

import argparse
import sys

import torch

from benchmarks import checkpoints, growth, jobs, selective_layers, training
from benchmarks.measure import as_table, measure


def main() -> None:
    """Run the jobs whose function names are given, or all, and the growth tables."""
    names = {job.__name__: job for job in [*jobs.JOBS, *training.JOBS, *selective_layers.JOBS, *checkpoints.JOBS]}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("jobs", nargs="*", default=[*names, "growth"], help=f"some of {', '.join(names)}, growth")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in arguments.jobs:
        if name != "growth":
            print(f"{name} ...", file=sys.stderr)
            rows += measure(names[name]())
    if rows:
        print(as_table(rows))
    if "growth" in arguments.jobs:
        print()
        print(growth.table())


if __name__ == "__main__":
    main()
