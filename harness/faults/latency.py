"""A long way: every byte arrives later."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ClassVar

from anyio import current_time

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
        ``jitter``. The choice for a byte follows from the seed and its place in the stream.
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
        if not callable(distribution) and distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"Latency: distribution has to be a function or one of {', '.join(DISTRIBUTIONS)}, "
                f"not {distribution!r}"
            )
        self.distribution: str | Callable[[Random], float] = distribution
        self._last = 0.0

    async def transfer(self, data: bytes, link: Link) -> None:
        await self._wait(link)
        await link.send(data)

    async def finish(self, link: Link) -> None:
        await self._wait(link)
        await link.send_eof()

    async def _wait(self, link: Link) -> None:
        self._last = max(self._last, link.arrived + self._delay_at(link))
        await link.pause(self._last - current_time())

    def _delay_at(self, link: Link) -> float:
        if not self.jitter:
            return self.delay
        chosen = self.distribution
        choose = chosen if callable(chosen) else DISTRIBUTIONS[chosen]
        return max(0.0, self.delay + self.jitter * choose(Random(link.seed_at(link.offset))))
