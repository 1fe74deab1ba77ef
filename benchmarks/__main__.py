"""What the harness costs, beside what one would use in its place.

    python -m benchmarks                 # all of it: long, and the machine has to be quiet
    python -m benchmarks echo_tests      # some
    python -m benchmarks --brief         # shows that all of it works; its figures say nothing

Every comparison is made in one run, the contestants taking turns. Printed are the median of each
one's figures, between which values half of them lie, and the harness's figure by each peer's. A
ratio below 1 is good where the figure is a time or a size. Peers that are not installed are left
out: `nox -s bench` has them all.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from harness.backends import BUILT_IN, DEFAULT

from .comparing import Benchmark, Comparison, Plan
from .report import lines_of, surroundings, write_json, write_pictures

#: Modules of this package, each with a `run`.
BENCHMARKS = [
    *("echo_tests", "unused", "start_up", "collecting", "workers", "kept_memory"),
    *("memory_transport", "lingering", "settling", "leak_check", "virtual_time", "proxy"),
]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--brief", action="store_true", help="as little as shows that it works")
    parser.add_argument(
        "--backends", default=",".join(DEFAULT), metavar="NAMES", help="default: %(default)s"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write results.json and pictures (SVG) there"
    )
    given = parser.parse_args()
    for name in given.names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    backends = tuple(given.backends.split(","))
    for backend in backends:
        if backend not in BUILT_IN:
            parser.error(f"there is no backend {backend!r}; there are {', '.join(BUILT_IN)}")
    if given.out is not None:
        given.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(given.brief, backends)
    here = surroundings()
    print(f"Python {here['python']}, {here['system']}, {here['cores']} cores")
    found: dict[str, list[Comparison]] = {}
    for name in given.names or BENCHMARKS:
        run: Benchmark = import_module(f"{__package__}.{name}").run
        for comparison in run(plan):
            found.setdefault(name, []).append(comparison)
            print("\n".join(lines_of(comparison, with_goals=not given.brief)), flush=True)
            if given.out is not None:  # what there is, whenever it is interrupted
                every = [each for several in found.values() for each in several]
                write_json(given.out / "results.json", every)
    if given.out is not None:
        write_pictures(given.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
