"""``make metrics``: figures of the source beside what is wanted; exit code 1 where one is missed.

``cd tests; python -m metrics --list ssm_analysis/plots`` prints the places below one folder that stand in the way.
"""

import argparse
import sys

from .measures import Measure, measure
from .source import read_package


def main() -> int:
    """Print the table, and with ``--list`` the offenders; return the exit code."""
    parser = argparse.ArgumentParser(prog="metrics", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="print the places of what misses a figure, and of all 'Any' and 'type: ignore'")
    parser.add_argument("paths", nargs="*", default=[""], help="list only places whose path begins so, e.g. ssm_analysis/plots")
    arguments = parser.parse_args()
    measures = measure(read_package())
    if arguments.list:
        print("\n\n".join(filter(None, (_offenders(each, tuple(arguments.paths)) for each in measures))), end="\n\n")
    print(_table(measures))
    return 0 if all(each.is_met for each in measures) else 1


def _table(measures: list[Measure]) -> str:
    """Return one line for each figure."""
    width = max(len(each.name) for each in measures)
    lines = [f"{'':{width}}  measured    wanted"]
    for each in measures:
        sign = ">=" if each.at_least else "<="
        wanted = "" if each.wanted is None else f"{sign} {each.wanted:g}"
        lines.append(f"{each.name:{width}}  {each.measured:8g}  {wanted:>8}  {'' if each.is_met else 'MISSED'}".rstrip())
    return "\n".join(lines)


def _offenders(each: Measure, prefixes: tuple[str, ...]) -> str:
    """Return a heading and the places below the paths wanted; empty if there are none."""
    places = [place for place in each.offenders if place.startswith(prefixes)]
    return "\n  ".join([f"{each.name} ({len(places)} of {len(each.offenders)})", *places]) if places else ""


if __name__ == "__main__":
    sys.exit(main())
