"""What a benchmark gives: figures of several contestants, taken in turns, and how they compare."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Takes one figure of a contestant.
Take = Callable[[], float]


@dataclass(frozen=True)
class Goal:
    """What our figure shall be beside a peer's: a ratio, or else a difference.

    :ivar most: the most, or ``None``
    :ivar least: the least, or ``None``
    """

    peer: str
    most: float | None = None
    least: float | None = None
    is_difference: bool = False

    def is_met(self, value: float) -> bool:
        above = self.least is not None and value < self.least
        return not above and not (self.most is not None and value > self.most)

    def __str__(self) -> str:
        sign, bound = ("<=", self.most) if self.least is None else (">=", self.least)
        return f"{sign} {'+' if self.is_difference else 'x'}{bound:g}"


@dataclass
class Comparison:
    """One table of figures.

    :ivar title: what is measured; no two have the same
    :ivar unit: of the figures
    :ivar figures: each contestant's, in the order in which they were taken
    :ivar ours: the contestant that the others are beside
    :ivar goals: what is to be reached
    :ivar beside: of which contestants a ratio is told; by default all
    """

    title: str
    unit: str
    figures: dict[str, list[float]]
    ours: str = "harness"
    goals: list[Goal] = field(default_factory=list)
    beside: list[str] | None = None

    def values(self, peer: str, *, difference: bool = False) -> list[float]:
        """Ours by the peer's, turn by turn."""
        pairs = zip(self.figures[self.ours], self.figures[peer], strict=True)
        return [a - b if difference else a / b for a, b in pairs]

    def peers(self) -> list[str]:
        wanted = self.figures if self.beside is None else self.beside
        return [name for name in wanted if name != self.ours and name in self.figures]

    def results(self) -> list[tuple[Goal, float, bool]]:
        """Each goal with the median that there is, and whether it is met."""
        found = []
        for goal in self.goals:
            if goal.peer in self.figures:
                value = statistics.median(self.values(goal.peer, difference=goal.is_difference))
                found.append((goal, value, goal.is_met(value)))
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "unit": self.unit,
            "ours": self.ours,
            "figures": self.figures,
            "ratios": {peer: Spread.of(self.values(peer)).as_json() for peer in self.peers()},
            "goals": [
                {"peer": goal.peer, "goal": str(goal), "value": value, "met": met}
                for goal, value, met in self.results()
            ],
        }


@dataclass(frozen=True)
class Spread:
    """The median of some figures, and between which values half of them lie."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = list(values)
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        return cls(*statistics.quantiles(values, n=4, method="inclusive"))

    def as_json(self) -> dict[str, float]:
        return {"low": self.low, "median": self.middle, "high": self.high}

    def written(self, form: str) -> str:
        return f"{self.middle:{form}} ({self.low:{form}}-{self.high:{form}})"


def in_turns(contestants: Mapping[str, Take], rounds: int, *, warm_up: bool = True) -> Figures:
    """Figures of each, one after the other within a round, so that all meet the same machine.

    The order is turned round from one round to the next. With ``warm_up``, there is one more, which
    is thrown away.
    """
    figures: Figures = {name: [] for name in contestants}
    names = list(contestants)
    for number in range(-1 if warm_up else 0, rounds):
        for name in names if number % 2 == 0 else reversed(names):
            figure = contestants[name]()
            if number >= 0:
                figures[name].append(figure)
    return figures


Figures = dict[str, list[float]]


@dataclass(frozen=True)
class Plan:
    """How much is done.

    :ivar is_brief: as little as shows that all of it works; the figures say nothing then
    :ivar backends: by their names
    """

    is_brief: bool
    backends: tuple[str, ...]

    def some(self, many: int, few: int) -> int:
        return few if self.is_brief else many

    def rounds(self, number: int) -> int:
        return 1 if self.is_brief else number


class Missing(Exception):
    """A peer is not installed; its name."""


#: A benchmark: yields what it has found as soon as it has.
Benchmark = Callable[[Plan], Iterator[Comparison]]
