"""What a toxic is, what it sees, and when it acts.

A toxic is one class with one async method, most often :meth:`Toxic.transfer`. Each direction of
each connection has a copy of it, so it may keep what it needs on ``self``. (The copy is a shallow
one: a list that is made in ``__init__`` is everybody's.) It waits only by :meth:`Link.pause`,
:meth:`Link.pause_until` and :meth:`Link.hold`, which return at once when it is taken away; so
nothing that it has been given is lost then, and nothing overtakes it.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from .proxy import ProxyConnection

#: Client to server, or server to client.
Direction = Literal["upstream", "downstream"]

#: Bytes that may wait for a toxic, in one direction of one connection, before the sender has to.
CAPACITY = 64 * 1024


class Link(ABC):
    """One direction of one connection, as one toxic sees it.

    What it counts and times begins when the toxic comes to the connection: with the connection, or
    when the toxic is added to a live one.

    :ivar direction: ``"upstream"`` (client to server) or ``"downstream"``
    :ivar connection: the connection, with its number and its counts
    :ivar offset: how many bytes had come this way before those that are being transferred
    :ivar arrived: when those came, by ``anyio.current_time()``
    :ivar began: when the toxic began to act here
    """

    direction: Direction
    connection: ProxyConnection
    offset: int
    arrived: float
    began: float

    @property
    @abstractmethod
    def random(self) -> Random:
        """For all choices of this toxic here; follows from the proxy's seed."""

    @property
    @abstractmethod
    def acts(self) -> bool:
        """Whether the toxic still acts: not once it is taken away, or its time is over."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Pass bytes on: to the next toxic, or to the other side. Waits if there is no room."""

    @abstractmethod
    async def send_eof(self) -> None:
        """Pass the end of the stream on (FIN). What comes after it goes nowhere."""

    @abstractmethod
    async def pause(self, seconds: float) -> bool:
        """Wait; ``False``, at once, if the toxic is changed or no longer acts."""

    @abstractmethod
    async def pause_until(self, time: float) -> bool:
        """Wait until then, by ``anyio.current_time()``; as :meth:`pause`."""

    @abstractmethod
    async def hold(self) -> None:
        """Wait until the toxic no longer acts, whatever is changed meanwhile."""

    @abstractmethod
    async def reset(self) -> None:
        """End the connection with RST, on both sides, whatever is on its way."""

    @abstractmethod
    async def close(self) -> None:
        """End the connection with FIN, on both sides, now: what is on its way is lost."""

    @abstractmethod
    async def disconnect(self) -> None:
        """End the connection with FIN, on both sides, after what has been sent this way."""

    @abstractmethod
    def seed_at(self, offset: int) -> str:
        """A seed for a choice that has to be the same for the same byte in every run."""


class Toxic:
    """A fault. Override one of the methods; each passes everything on as it is.

    :cvar capacity: bytes that may wait for it, in one direction of one connection, before the
        sender has to
    """

    capacity: ClassVar[int] = CAPACITY

    async def transfer(self, data: bytes, link: Link) -> None:
        """Bytes have come: pass them on with ``link.send``, changed or not, now or later.

        Called for one run of bytes after the other. How bytes are cut into these differs from run
        to run; what has to be the same in every run goes by :attr:`Link.offset`.
        """
        await link.send(data)

    async def finish(self, link: Link) -> None:
        """The end of the stream has come (FIN): pass it on with ``link.send_eof``."""
        await link.send_eof()

    async def watch(self, link: Link) -> None:
        """Runs beside, from the moment that the toxic acts, and again when it is changed.

        It is cancelled when the toxic is changed or no longer acts, but not while it sends.
        """

    async def accept(self, connection: ProxyConnection) -> None:
        """A client has connected, and the proxy has not connected to the server yet.

        Not called on a copy. Whatever ``OSError`` it raises refuses the connection. It is cancelled
        if the toxic no longer acts, and called again if it is changed:
        ``connection.times_asked`` says how often it was, and ``asked_at`` when first.
        """

    def __repr__(self) -> str:
        values = ", ".join(
            f"{name}={value!r}" for name, value in vars(self).items() if not name.startswith("_")
        )
        return f"{type(self).__name__}({values})"


#: Each of these a toxic may override; one that overrides none would do nothing.
METHODS = ("transfer", "finish", "watch", "accept")


def checked_toxic(toxic: Any) -> Toxic:
    """``toxic``, if it can be one.

    Raises :exc:`TypeError` or :exc:`ValueError` that says what is wrong with it.
    """
    if not isinstance(toxic, Toxic):
        raise TypeError(f"add(): toxic has to be a harness.faults.Toxic, not {toxic!r}")
    kind = type(toxic)
    if not isinstance(toxic.capacity, int) or toxic.capacity < 1:
        raise ValueError(
            f"add(): {kind.__name__}.capacity has to be a whole number of bytes, 1 or more, "
            f"not {toxic.capacity!r}"
        )
    own = [name for name in METHODS if getattr(kind, name) is not getattr(Toxic, name)]
    if not own and kind is not Toxic:
        raise TypeError(
            f"add(): {kind.__name__} overrides none of {', '.join(METHODS)}, and would do nothing"
        )
    for name in own:
        if not inspect.iscoroutinefunction(inspect.unwrap(getattr(kind, name))):
            raise TypeError(f"add(): {kind.__name__}.{name} has to be async: write `async def`")
    return toxic


class Trigger:
    """When a toxic acts. Each direction of each connection has a copy of it.

    Override what it depends on; the toxic acts while all of them agree.
    """

    def covers(self, connection: int) -> bool:
        """Whether it may act on the connection with this number, which counts from 1."""
        return True

    def begins(self, data: bytes) -> int | None:
        """Where in ``data`` it begins to act; ``None`` for not yet.

        Asked for one run of bytes after the other until it has begun; first for ``b""``, before
        any have come.
        """
        return 0

    def window(self) -> tuple[float, float]:
        """From when to when it may act, in seconds since the toxic was added."""
        return (0.0, float("inf"))

    def __repr__(self) -> str:
        return Toxic.__repr__(self)  # type: ignore[arg-type]


def checked_number(
    value: Any, name: str, *, of: str, least: float = 0.0, most: float = float("inf")
) -> float:
    """``value``, if it is a number from ``least`` to ``most``; else a clear error.

    :raises TypeError: if it is no number
    :raises ValueError: if it is out of range, or not a number
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{of}: {name} has to be a number, not {value!r}")
    if not least <= value <= most or value == float("inf"):
        upper = " or more" if most == float("inf") else f" to {most:g}"
        if value == most:
            upper += ", and finite"
        raise ValueError(f"{of}: {name} has to be {least:g}{upper}, not {value!r}")
    return value


def checked_count(value: Any, name: str, *, of: str, least: int = 0) -> int:
    """``value``, if it is a whole number of at least ``least``; else a clear error."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{of}: {name} has to be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{of}: {name} has to be {least} or more, not {value!r}")
    return value
