"""A function over the bytes of a direction."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anyio import get_cancelled_exc_class
from anyio.lowlevel import checkpoint_if_cancelled

from .contract import Link, Toxic


class Transform(Toxic):
    """Sends what ``function`` makes of each run of bytes.

    How the bytes of a stream are cut into runs differs from run to run. What the function raises
    fails the test, with its own traceback, and resets the connection.

    :param function: takes ``bytes`` and returns ``bytes``; may be async
    """

    def __init__(self, function: Callable[[bytes], Any]) -> None:
        if not callable(function):
            raise TypeError(f"Transform: function has to be callable, not {function!r}")
        self.function: Callable[[bytes], Any] = function

    async def transfer(self, data: bytes, link: Link) -> None:
        __tracebackhide__ = True
        made = self.function(data)
        if inspect.isawaitable(made):
            try:
                made = await made
            except get_cancelled_exc_class() as exc:
                await checkpoint_if_cancelled()  # which raises it again, if it comes from here
                raise RuntimeError(
                    f"the function of a Transform was cancelled from within: {self.function!r}"
                ) from exc
        if not isinstance(made, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"the function of a Transform has to return bytes, and {self.function!r} "
                f"returned {made!r}"
            )
        await link.send(data if made == data else bytes(made))
