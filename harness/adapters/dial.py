"""For clients that cannot be told where to connect, or how: their dial function, replaced.

A client that takes a callable needs nothing of this: ``Client(connect=server.connect)``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import TracebackType
from typing import Any
from unittest import mock

from anyio.abc import ByteStream, ByteStreamConnectable

#: What is returned by the functions of libraries that know nothing of AnyIO.
NOT_ANYIOS = {"asyncio": "a reader and a writer, or a transport", "trio": "a stream of trio's"}


class patch_dial:  # noqa: N801 (used as a function: `with patch_dial(...)`)
    """Let an async function of a module connect to ``server``, whatever its arguments are.

    ::

        with patch_dial("client.connect_tcp", server) as dialled:
            await client.fetch("db.example.com", 5432)
        assert dialled.calls == [(("db.example.com", 5432), {})]

    ``async with`` does the same. The target is named where it is looked up, as for
    :func:`unittest.mock.patch`: after ``from anyio import connect_tcp`` in ``client.py`` it is
    ``"client.connect_tcp"``, after ``import anyio`` it is ``"anyio.connect_tcp"``, which then is
    another for the whole process. A method is named by its class: ``"client.Client._dial"``.

    The stream is that of ``server.connect()``: if the server has TLS, it has TLS on it.

    :param target: the dotted name of an async function
    :param server: a server, a proxy, or any other ``ByteStreamConnectable``
    :ivar calls: the arguments of each call, as ``(args, kwargs)``; of a method without its object
    :raises TypeError: if ``target`` is no string or ``server`` cannot be connected to; on entry,
        if what the target names is no async function, or one of asyncio's or trio's own, which
        return no stream of AnyIO's
    :raises ValueError: if ``target`` has no dot
    :raises ModuleNotFoundError: on entry, if there is no such module
    :raises AttributeError: on entry, if there is nothing of that name in it
    :raises RuntimeError: if it is entered while it is in effect
    """

    def __init__(self, target: str, server: ByteStreamConnectable) -> None:
        __tracebackhide__ = True
        if not isinstance(target, str):
            raise TypeError(
                f"patch_dial() takes the dotted name of a function, not {target!r}, which others "
                "would go on to use under its own name"
            )
        if not all(part.isidentifier() for part in target.split(".")) or "." not in target:
            raise ValueError(
                f"patch_dial() takes the dotted name of a function, such as 'client.connect_tcp', "
                f"not {target!r}"
            )
        if not isinstance(server, ByteStreamConnectable):
            raise TypeError(
                "patch_dial() expects a Server or another anyio.abc.ByteStreamConnectable, "
                f"not {server!r}"
            )
        self.target: str = target
        self.server: ByteStreamConnectable = server
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._patch: AbstractContextManager[Any] | None = None

    def __enter__(self) -> patch_dial:
        __tracebackhide__ = True
        if self._patch is not None:
            raise RuntimeError(f"{self} is in effect already")
        owner, name = self._found()
        is_static = isinstance(inspect.getattr_static(owner, name), (staticmethod, classmethod))
        replacement: Any = self._dial(bound=isinstance(owner, type) and not is_static)
        patch = mock.patch.object(
            owner, name, staticmethod(replacement) if is_static else replacement
        )
        patch.__enter__()
        self._patch = patch
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        patch, self._patch = self._patch, None
        if patch is not None:
            patch.__exit__(exc_type, exc_val, exc_tb)

    async def __aenter__(self) -> patch_dial:
        __tracebackhide__ = True
        return self.__enter__()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        self.__exit__(exc_type, exc_val, exc_tb)

    def __repr__(self) -> str:
        return f"<patch_dial {self.target!r} -> {self.server!r}>"

    def _dial(self, *, bound: bool) -> Callable[..., Any]:
        async def dial(*args: Any, **kwargs: Any) -> ByteStream:
            self.calls.append((args[1:] if bound else args, kwargs))
            return await self.server.connect()

        return dial

    def _found(self) -> tuple[Any, str]:
        """What has the target, and under which name."""
        __tracebackhide__ = True
        *path, name = self.target.split(".")
        try:
            owner: Any = import_module(path[0])
        except ModuleNotFoundError as exc:
            if exc.name != path[0]:
                raise
            message = f"patch_dial({self.target!r}): there is no module {path[0]!r}"
            raise ModuleNotFoundError(message, name=path[0]) from None
        for number, part in enumerate(path[1:], 2):
            if not hasattr(owner, part):
                whole = ".".join(path[:number])
                try:
                    import_module(whole)
                except ModuleNotFoundError as exc:
                    if exc.name != whole:
                        raise
                    raise self._nothing(owner, ".".join(path[: number - 1]), part) from None
            owner = getattr(owner, part)
        found = getattr(owner, name, None)
        if found is None:
            raise self._nothing(owner, ".".join(path), name)
        if not callable(found) or (
            inspect.isroutine(found) and not inspect.iscoroutinefunction(inspect.unwrap(found))
        ):
            raise TypeError(
                f"patch_dial({self.target!r}): that is {found!r}, and no async function"
            )
        library = str(getattr(found, "__module__", "")).partition(".")[0]
        if library in NOT_ANYIOS:
            raise TypeError(
                f"patch_dial({self.target!r}): whoever calls that wants {NOT_ANYIOS[library]}, and "
                "server.connect() returns a byte stream of AnyIO's; let it connect to "
                "server.address, over a transport that it knows"
            )
        return owner, name

    def _nothing(self, owner: Any, where: str, name: str) -> AttributeError:
        near = [each for each in dir(owner) if "connect" in each or "dial" in each]
        has = f"; it has {', '.join(near)}" if near else ""
        return AttributeError(f"patch_dial({self.target!r}): {where} has no {name!r}{has}")
