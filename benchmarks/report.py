"""A table of ratios, JSON, and pictures, of what was compared."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .comparing import Comparison, Spread

#: What the figures depend on, beside Python and the machine.
PACKAGES = [
    *("anyio", "trio", "uvloop", "pytest", "pytest-asyncio", "pytest-trio", "pytest-xdist"),
    *("aiomisc", "aiomisc-pytest", "looptime", "async-solipsism", "aiotools"),
]


def lines_of(comparison: Comparison, *, with_goals: bool) -> list[str]:
    """The rows of one comparison: each contestant's figure, ours by it, and the goal."""
    results = comparison.results() if with_goals else []
    met = {goal.peer: (goal, value, is_met) for goal, value, is_met in results}
    lines = [comparison.title]
    for name, figures in comparison.figures.items():
        figure = Spread.of(figures)
        line = f"  {name:26} {figure.written(form(figure.middle)):>28} {comparison.unit}"
        if name in comparison.peers():
            line += f"   ours x{Spread.of(comparison.values(name)).written('.2f')}"
        if name in met:
            goal, value, is_met = met[name]
            seen = f", is {value:+.2f}" if goal.is_difference else ""
            line += f"   goal {goal}{seen}: {'met' if is_met else 'NOT met'}"
        lines.append(line)
    return lines


def form(value: float) -> str:
    return ".0f" if value >= 100 else ".1f" if value >= 10 else ".2f"


def surroundings() -> dict[str, Any]:
    """What the figures depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "packages": found,
    }


def write_json(file: Path, comparisons: Sequence[Comparison]) -> None:
    found = {"where": surroundings(), "comparisons": [each.as_json() for each in comparisons]}
    file.write_text(json.dumps(found, indent=2) + "\n")


def write_pictures(folder: Path, found: dict[str, list[Comparison]]) -> None:
    """One picture of each benchmark: our figure by each peer's, on a scale of powers."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "the same each time", "svg.fonttype": "none"})
    from matplotlib import pyplot

    for name, comparisons in found.items():
        rows = [
            (f"{each.title}\nby {peer}", Spread.of(each.values(peer)), goal_of(each, peer))
            for each in comparisons
            for peer in each.peers()
        ]
        if not rows:
            continue
        figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2))
        for place, (_, ratio, goal) in enumerate(reversed(rows)):
            axes.plot(
                [ratio.low, ratio.high], [place, place], color="tab:blue", linewidth=5, alpha=0.4
            )
            axes.plot(ratio.middle, place, "o", color="tab:blue")
            axes.annotate(
                f"x{ratio.middle:.2f}",
                (ratio.middle, place),
                textcoords="offset points",
                xytext=(0, 6),
                ha="center",
                fontsize=7,
            )
            if goal is not None:
                axes.plot(goal, place, "|", color="tab:green", markersize=14, markeredgewidth=2)
        axes.axvline(1, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), [label for label, _, _ in reversed(rows)], fontsize=7)
        axes.set_ylim(-0.7, len(rows) - 0.2)
        axes.set_xlabel("the harness's figure by the other's (green: the goal)")
        figure.tight_layout()
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)


def goal_of(comparison: Comparison, peer: str) -> float | None:
    for goal in comparison.goals:
        if goal.peer == peer and not goal.is_difference:
            return goal.least if goal.most is None else goal.most
    return None
