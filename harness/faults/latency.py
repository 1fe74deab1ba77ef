"""A long way: every byte arrives later."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import ClassVar

from .contract import Link, Toxic, checked_number

#: How far from the delay, in units of ``jitter``, by name.
DISTRIBUTIONS: dict[str, Callable[[Random], float]] = {
    "uniform": lambda random: random.uniform(-1.0, 1.0),
    "normal": lambda random: random.gauss(0.0, 1.0),
    "exponential": lambda random: random.expovariate(1.0),
    "pareto": lambda random: random.paretovariate(3.0) - 1.0,
}


class Latency(Toxic):
    """Every byte is late by the delay, as on a long link. Order is kept.

    Bytes that come while others are on their way are not late by more than their own delay, so the
    throughput is not divided by it: up to 16 MiB may be on their way in one direction of one
    connection. The end of the stream is late, too.

    :param delay: seconds
    :param jitter: seconds; how far a delay may be from that. A delay is never below 0.
    :param distribution: of the jitter. ``"uniform"`` from ``-jitter`` to ``+jitter``; ``"normal"``
        with ``jitter`` as the standard deviation; ``"exponential"`` and ``"pareto"`` (shape 3),
        which only add to the delay; or a function of a ``random.Random`` that returns a factor for
        ``jitter``. The choice follows from the seed and the place in the stream; bytes that come
        at the same time share it, however they are cut.
    """

    capacity: ClassVar[int] = 16 * 1024 * 1024

    def __init__(
        self,
        delay: float,
        jitter: float = 0.0,
        distribution: str | Callable[[Random], float] = "uniform",
    ) -> None:
        self.delay: float = checked_number(delay, "delay", of="Latency")
        self.jitter: float = checked_number(jitter, "jitter", of="Latency")
        if not callable(distribution) and distribution not in [*DISTRIBUTIONS]:
            raise ValueError(
                f"Latency: distribution has to be a function or one of {', '.join(DISTRIBUTIONS)}, "
                f"not {distribution!r}"
            )
        self.distribution: str | Callable[[Random], float] = distribution
        #: when the last bytes came, and by how many times the jitter they are late
        self._came: float | None = None
        self._chosen = 0.0

    async def transfer(self, data: bytes, link: Link) -> None:
        await self._wait(link)
        await link.send(data)

    async def finish(self, link: Link) -> None:
        await self._wait(link)
        await link.send_eof()

    async def _wait(self, link: Link) -> None:
        while link.acts:
            if self.jitter and self._came != link.arrived:
                self._chosen = self._choose(Random(link.seed_at(link.offset)))
                self._came = link.arrived
            late = max(0.0, self.delay + self.jitter * self._chosen)
            if await link.pause_until(link.arrived + late):
                break

    def _choose(self, random: Random) -> float:
        chosen = self.distribution
        choose = chosen if callable(chosen) else DISTRIBUTIONS[chosen]
        return checked_number(
            choose(random), "what distribution returns", of="Latency", least=-math.inf
        )
