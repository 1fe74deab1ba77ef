"""A server in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import socket
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from anyio import (
    CancelScope,
    Event,
    create_task_group,
    get_cancelled_exc_class,
    move_on_after,
)
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from ..supervisor import DidNotStop
from ..transports.base import Transport
from ..transports.temporary import make_directory, remove_directory
from ..watch import add_note, running_elsewhere
from .at_rest import at_rest
from .base import Shape, Site
from .child import ENDING, Child
from .main import missing
from .output import Output, Wanted, shortened

#: What may stand in braces in an argument.
PLACEHOLDERS = ("port", "host", "path", "fd", "certfile", "keyfile", "cafile")

#: Of these, what is in files.
FILES = frozenset({"certfile", "keyfile", "cafile"})

#: Seconds, of real time, within which a process ends that has closed its connections in a crash.
MOMENT = 0.5

#: The last lines that an exception has.
LINES_OF_AN_ERROR = 20


class ProcessEnded(Exception):
    """The process of a server has ended, and nobody has asked it to.

    :ivar command: what it ran
    :ivar returncode: its exit code, or the negative number of the signal that has killed it
    :ivar output: its last lines
    """

    def __init__(
        self, name: str, command: Sequence[str], returncode: int | None, output: Sequence[str]
    ) -> None:
        self.name = name
        self.command: Sequence[str] = command
        self.returncode = returncode
        self.output: Sequence[str] = output
        lines = [f"process {name!r} has ended ({in_words(returncode)}): {' '.join(command)}"]
        if output:
            lines += ["its last output:", *(f"  {shortened(line)}" for line in output)]
        else:
            lines.append("it has written nothing")
        super().__init__("\n".join(lines))


class Process(Shape):
    """A server in a process, which is told where to listen, or says where it does.

    ::

        process = Process(
            [sys.executable, "-m", "myserver", "--port", "{port}"],
            ready=r"listening on .*:(?P<port>\\d+)",
        )
        server = await harness.serve(process)
        await process.kill()
        await server.restart()  # at the same address

    In an argument or a value of ``env`` may stand:

    ============== =====================================================================
    ``{fd}``       the number of a socket that listens already
    ``{port}``     0; for a restart, the port at which it was before
    ``{host}``     the IP address that the transport is for
    ``{path}``     the path of a unix socket in a private directory
    ``{certfile}`` and ``{keyfile}``, ``{cafile}``: files in PEM, for TLS
    ============== =====================================================================

    Braces that are meant are doubled. It runs over the transports that fit what it uses of these,
    and is skipped over the others.

    With ``{fd}`` there is nothing to wait for, and no moment at which somebody else could take the
    address; clients are in its queue until it accepts them. Anything else has to be ``ready``.

    When it ends and nobody has asked it to, that is a crash of the server: :exc:`ProcessEnded`. It
    is stopped by SIGTERM, and after the server's grace by SIGKILL. All that it has started ends
    with it, and also if this process is killed. (A daemon that has a session of its own and has
    lost its parent is not found; where there is no ``/proc``, only its process group is.)

    What it writes is kept, 1000 lines of it, and shown if the test fails. It cannot read anything.

    :param command: the program and its arguments
    :param ready: a regular expression that is searched for in each line of its output, of stdout
        and stderr. When it is found, the server is ready; its groups ``port``, ``host``, ``path``
        or ``url`` say where. A line that the process keeps in a buffer is not there yet:
        ``PYTHONUNBUFFERED`` is set for that (``python -E`` and ``-I`` need ``-u``).
    :param address: where it is, if neither ``ready`` nor a placeholder says that: a port,
        ``(host, port)``, a path or a URL
    :param env: added to the environment
    :param cwd: the directory to run it in
    :param tls: whether it speaks TLS; by default, if it is given ``{certfile}`` or ``{keyfile}``
    :raises TypeError: if ``command`` is no list of strings
    :raises ValueError: for an unknown placeholder, and if nobody would know where it is
    """

    def __init__(
        self,
        command: Sequence[str | bytes | os.PathLike[str]],
        *,
        ready: str | re.Pattern[str] | None = None,
        address: Any = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        tls: bool | None = None,
    ) -> None:
        __tracebackhide__ = True
        if isinstance(command, (str, bytes)) or not isinstance(command, Sequence) or not command:
            raise TypeError(f"Process takes a list of a program and its arguments, not {command!r}")
        for each in command:
            if not isinstance(each, (str, bytes, os.PathLike)):
                raise TypeError(f"Process: an argument has to be a string, not {each!r}")
        self.command: Sequence[str | bytes] = [os.fspath(each) for each in command]
        self._env = dict(env or {})
        for key, value in self._env.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise TypeError(f"Process: env has strings only, and not {key!r}: {value!r}")
        self._cwd = None if cwd is None else os.fspath(cwd)
        self._given_address = address
        self._uses = self._used()
        try:
            self._ready = re.compile(ready) if ready is not None else None
        except re.error as exc:
            raise ValueError(f"Process: ready={ready!r} is no regular expression: {exc}") from None
        self._groups = set(self._ready.groupindex) if self._ready is not None else set()
        self._tls = bool(self._uses & {"certfile", "keyfile"}) if tls is None else tls
        self._check()
        self._child: Child | None = None
        self._output = Output(self.name)
        self._run: _Run | None = None

    def _used(self) -> set[str]:
        found = set()
        for text in (*self.command, *self._env.values()):
            if isinstance(text, str):
                for _, name, form, conversion in string.Formatter().parse(text):
                    if name is not None and (name not in PLACEHOLDERS or form or conversion):
                        raise ValueError(
                            f"unknown placeholder {{{name}}} in {text!r}; there are "
                            f"{', '.join(f'{{{known}}}' for known in PLACEHOLDERS)}, and {{{{ and "
                            "}} for braces"
                        )
                    if name is not None:
                        found.add(name)
        return found

    def _check(self) -> None:
        __tracebackhide__ = True
        if {"fd", "path"} <= self._uses or {"fd", "port"} <= self._uses:
            raise ValueError("a server that is given {fd} is given no other address")
        if "fd" in self._uses:
            return
        if self._ready is None:
            raise ValueError(
                "ready= has to tell when the server can be connected to; only with {fd} there is "
                "nothing to wait for"
            )
        says = self._groups & {"port", "path", "url"}
        if not (says or "path" in self._uses or self._given_address is not None):
            raise ValueError(
                "nobody would know where the server is: give ready= a group (?P<port>...), "
                "(?P<path>...) or (?P<url>...), or the server {fd} or {path}, or say address="
            )

    @property
    def name(self) -> str:
        return name_of(self.command)

    # What a test does with it

    @property
    def pid(self) -> int | None:
        """Its number, as long as it runs."""
        return None if self._child is None else self._child.pid

    @property
    def returncode(self) -> int | None:
        """How it has ended the last time: its exit code, or the negative number of a signal."""
        return None if self._run is None or self._child is not None else self._run.returncode

    @property
    def output(self) -> list[str]:
        """The last lines that it has written, 1000 at most, also before a restart."""
        return self._output.since(0)

    @property
    def line_count(self) -> int:
        """How many lines it has written, over all its starts: for ``wait_output(since=...)``."""
        return self._output.count

    async def wait_output(
        self, pattern: str | re.Pattern[str], *, since: int | None = None
    ) -> re.Match[str]:
        """Wait for a line of its output that ``pattern`` is found in.

        :param since: look only at lines after so many, as :attr:`line_count` has counted them; by
            default, at those since it was last started
        :raises ProcessEnded: if it ends, for whatever reason, without having written one
        """
        __tracebackhide__ = True
        compiled = re.compile(pattern)
        await checkpoint()
        run = self._run
        if run is None:
            raise RuntimeError(f"process {self.name!r} has not been started")
        wanted = self._output.want(compiled, since=run.began_at if since is None else since)
        match = await self._until_written(wanted, compiled)
        if match is not None:
            return match
        await run.over.wait()
        raise run.crash or self._ended(run)

    async def _until_written(
        self, wanted: Wanted, pattern: re.Pattern[str]
    ) -> re.Match[str] | None:
        try:
            with self._awaited():
                await wanted.known.wait()
        finally:
            self._output.unwant(wanted)
        return wanted.match

    async def wait(self) -> int | None:
        """Wait for its end, and return :attr:`returncode`. Returns at once if it does not run.

        An end that nobody has asked for is in ``server.errors`` then; if it is not expected, the
        test fails with it. Raises :exc:`RuntimeError` if it has not been started.
        """
        await checkpoint()
        run = self._run
        if run is None:
            raise RuntimeError(f"process {self.name!r} has not been started")
        with self._awaited():
            await self._until_over(run)
        return run.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal. After SIGINT, SIGTERM, SIGQUIT or SIGKILL, its end is no crash.

        Raises :exc:`RuntimeError` if it does not run.
        """
        child, run = self._running()
        if number in ENDING and not child.has_ended():
            run.asked = run.asked or f"was sent {signal.Signals(number).name}"
            self._consider_rest()
        child.send_signal(number)

    async def kill(self) -> None:
        """Kill it with SIGKILL, and all that it has started, and wait for the end.

        Does nothing if it does not run. ``server.restart()`` starts it again.
        """
        await checkpoint()
        child, run = self._child, self._run
        if child is None or run is None:
            return
        if not child.has_ended():
            run.asked = "was killed"
        self._consider_rest()
        child.kill()
        await self._until_over(run)

    async def terminate(self) -> None:
        """Ask it to end, with SIGTERM, and wait for that. Does nothing if it does not run.

        Raises :exc:`harness.DidNotStop` if it still runs after the harness's ``cancel_timeout``.
        """
        await checkpoint()
        child, run = self._child, self._run
        if child is None or run is None:
            return
        self._ask_to_end("was terminated")
        with move_on_after(run.site.cancel_timeout):
            await self._until_over(run)
            return
        raise DidNotStop(
            f"process {self.name!r} ({child.pid}) did not end within {run.site.cancel_timeout:g} s "
            "of SIGTERM (harness_cancel_timeout)"
        )

    async def pause(self) -> None:
        """Stop it and its group with SIGSTOP, and wait until it stands still.

        Its connections stay open, and the kernel accepts more until the queue is full. Raises
        :exc:`RuntimeError` if it does not run.
        """
        child, _ = self._running()
        child.signal_all(signal.SIGSTOP)
        await checkpoint()
        await child.until_stopped()

    def resume(self) -> None:
        """Let it go on after :meth:`pause`. Raises :exc:`RuntimeError` if it does not run."""
        child, _ = self._running()
        child.signal_all(signal.SIGCONT)

    def _running(self) -> tuple[Child, _Run]:
        if self._child is None or self._run is None:
            raise RuntimeError(f"process {self.name!r} is not running")
        return self._child, self._run

    async def _until_over(self, run: _Run) -> None:
        await run.over.wait()

    # What a server does with it

    def missing(self, site: Site) -> str | None:
        if not hasattr(os, "killpg"):
            return f"{self.name} is a process, and Windows has neither groups nor signals for it"
        transport = site.transport
        if transport.has_sockets and transport.server_ssl_context is not None and not self._tls:
            return (
                f"{self.name} speaks no TLS; give it {{certfile}} and {{keyfile}}, or say tls=True"
            )
        reason = missing(self, site, self._tls, ())
        if reason is not None:
            return reason
        tcp = bool(self._uses & {"port", "host"})
        unix = "path" in self._uses
        if not (tcp or unix or "fd" in self._uses or self._given_address is not None):
            tcp, unix = "port" in self._groups, "path" in self._groups
        if tcp and not unix and not takes(transport, ("127.0.0.1", 0)):
            return f"{self.name} is at a port, and transport {transport.name!r} has none"
        if unix and not tcp and not takes(transport, "/"):
            return f"{self.name} is at a path, and transport {transport.name!r} has none"
        return None

    async def run(self, site: Site, *, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        if self._child is not None:
            raise RuntimeError(
                f"process {self.name!r} is one server already; make another Process for another"
            )
        if self._run is None or self._run.site is not site:
            self._output = Output(site.name)
        run = self._run = _Run(site, self._output.count)
        failure: BaseException | None = None
        with running_elsewhere(functools.partial(self._moment, run)):
            try:
                child = self._child = self._spawn(run)
                async with create_task_group() as tasks:
                    tasks.start_soon(child.copy_output, name=f"output of process {site.name!r}")
                    try:
                        await self._live(run, child, task_status)
                    except get_cancelled_exc_class():
                        if not child.has_ended():
                            run.asked = run.asked or "was stopped"
                        raise
                    except Exception as exc:  # not as one of a group
                        failure = exc
                    tasks.cancel_scope.cancel()
            finally:
                await self._end(run)
        if failure is not None:
            raise failure
        if run.crash is not None:
            raise run.crash

    async def _live(self, run: _Run, child: Child, task_status: TaskStatus[Any]) -> None:
        __tracebackhide__ = True
        if self._ready is not None:
            match = await self._until_ready(run, child, self._ready)
            if match is None:
                return
            task_status.started(self._address(match))
        else:
            task_status.started()
        run.serves = True
        self._consider_rest()
        await child.until_ended()

    async def _moment(self, run: _Run) -> None:
        """Wait a moment, if it is about to end by itself, until everybody knows that."""
        child = self._child
        if child is not None and run.asked is None and await child.ends_within(MOMENT):
            await run.over.wait()

    async def _until_ready(
        self, run: _Run, child: Child, pattern: re.Pattern[str]
    ) -> re.Match[str] | None:
        """The line that says that it is ready; ``None`` if it has ended without."""
        wanted = self._output.want(pattern, since=run.began_at)

        async def end() -> None:
            await child.until_ended()
            wanted.known.set()

        try:
            async with create_task_group() as tasks:
                tasks.start_soon(end, name=f"end of process {self._output.name!r}")
                await wanted.known.wait()
                tasks.cancel_scope.cancel()
        finally:
            self._output.unwant(wanted)
        return wanted.match

    async def _end(self, run: _Run) -> None:
        """Kill what is left of it, and see how it has ended."""
        child = self._child
        if child is not None:
            try:
                child.kill()
                with CancelScope(shield=True):
                    await child.until_ended()
                    await child.until_kin_ended()
            finally:  # also where nothing can be awaited any more
                self._put_away(run, child)
        else:
            self._give_back(run)
            run.over.set()

    def _put_away(self, run: _Run, child: Child) -> None:
        if self._child is not child:
            return
        self._child = None
        child.put_away()
        run.returncode = child.returncode
        self._give_back(run)
        if run.asked is None:
            run.crash = self._ended(run)
        run.over.set()

    def _give_back(self, run: _Run) -> None:
        if run.directory is not None:
            remove_directory(run.directory)
        if "port" in self._uses and run.site.endpoint is not None:
            run.site.endpoint.keep()

    def stop(self, site: Site) -> None:
        if self._child is None:
            super().stop(site)
        else:
            self._ask_to_end("was stopped")

    def release(self) -> None:
        # What waits for its descriptors may be an event loop that still turns: libuv ends the
        # process if one of them is closed.
        if self._child is not None and self._run is not None:
            self._run.asked = self._run.asked or "was stopped"
            self._child.reap()
            if self._run.directory is not None:
                remove_directory(self._run.directory)

    @property
    def doing(self) -> str:
        return f"runs as process {self.pid}, reached"

    @property
    def end(self) -> str:
        return (None if self._run is None else self._run.asked) or super().end

    def _ask_to_end(self, words: str) -> None:
        child, run = self._running()
        if run.asked is None and child.has_ended():
            return  # by itself, and nobody has heard of it yet
        run.asked = run.asked or words
        self._consider_rest()
        child.send_signal(signal.SIGTERM)
        child.signal_all(signal.SIGCONT)  # or it would not hear of it

    def _spawn(self, run: _Run) -> Child:
        site = run.site
        with contextlib.ExitStack() as ours:
            values = self._values(run, ours)
            descriptors = [int(values["fd"])] if "fd" in values else []
            environment = {"PYTHONUNBUFFERED": "1", **os.environ}
            for name, value in self._env.items():
                environment[name] = filled(value, values)
            run.command = [
                each if isinstance(each, bytes) else filled(each, values) for each in self.command
            ]
            if "port" in self._uses and site.endpoint is not None:
                site.endpoint.make_way()
            try:
                return Child(
                    run.command,
                    env=environment,
                    cwd=self._cwd,
                    pass_fds=descriptors,
                    output=self._output,
                )
            except OSError as exc:
                where = "" if self._cwd is None else f" in the directory {self._cwd!r}"
                add_note(exc, f"(process {site.name!r} cannot run {run.command[0]!r}{where})")
                raise

    def _values(self, run: _Run, ours: contextlib.ExitStack) -> dict[str, str]:
        """What the placeholders stand for.

        :param ours: closes what this process has only until the other one has it
        """
        site, uses = run.site, self._uses
        carrier: Any = site.transport.carrier
        values: dict[str, str] = {}
        if "host" in uses:
            values["host"] = getattr(carrier, "host", "127.0.0.1")
        if "port" in uses:
            before = site.address
            values["port"] = str(getattr(carrier, "port", 0) if before is None else before[1])
        if "path" in uses:
            if site.endpoint is None:
                site.endpoint = site.transport.reserve()
            site.endpoint.make_way()
            values["path"] = site.endpoint.address
        if "fd" in uses:
            bound: socket.socket = ours.enter_context(site.bind())
            values["fd"] = str(bound.fileno())
        if uses & FILES:
            from ..transports.tls import authority

            run.directory = make_directory("the certificate of a server")
            values.update(authority().write_to(run.directory))
        return values

    def _address(self, match: re.Match[str]) -> Any:
        """What ``task_status.started`` is told."""
        if self._uses & {"fd", "path"}:
            return None
        found = {name: value for name, value in match.groupdict().items() if value}
        if "url" in found:
            return found["url"]
        if "path" in found:
            return found["path"]
        if "port" not in found:
            return self._given_address
        port = int(found["port"])
        return (found["host"].strip("[]"), port) if "host" in found else port

    def _ended(self, run: _Run) -> ProcessEnded:
        lines = self._output.since(run.began_at)[-LINES_OF_AN_ERROR:]
        return ProcessEnded(
            self._output.name, [os.fsdecode(each) for each in run.command], run.returncode, lines
        )

    # Whether it holds virtual time

    _waiting = 0

    @contextlib.contextmanager
    def _awaited(self) -> Iterator[None]:
        self._waiting += 1
        self._consider_rest()
        try:
            yield
        finally:
            self._waiting -= 1
            self._consider_rest()

    def _consider_rest(self) -> None:
        run = self._run
        if self._child is not None and run is not None:
            if run.serves and run.asked is None and not self._waiting:
                at_rest.add(self._child.pid)
            else:
                at_rest.discard(self._child.pid)


class _Run:
    """One start of a process, and what became of it."""

    def __init__(self, site: Site, began_at: int) -> None:
        self.site = site
        #: the number of lines before it
        self.began_at = began_at
        self.command: Sequence[str | bytes] = ()
        self.directory: str | None = None
        self.serves = False
        #: in words, once somebody has wished that it ends
        self.asked: str | None = None
        self.returncode: int | None = None
        self.crash: ProcessEnded | None = None
        self.over = Event()


def name_of(command: Sequence[str | bytes]) -> str:
    """What messages call a process: the module or script that Python runs, or else the program."""
    program, *words = [os.fsdecode(each) for each in command]
    program = os.path.basename(program)
    if program.startswith(("python", "pypy")):
        options = iter(words)
        for word in options:
            if word == "-c":
                break
            if word == "-m":
                return next(options, program)
            if word in ("-W", "-X"):
                next(options, None)
            elif not word.startswith("-"):
                return os.path.basename(word)
    return program


def filled(text: str, values: Mapping[str, str]) -> str:
    """``text`` with what its placeholders stand for."""
    return text.format_map(values)


def takes(transport: Transport, address: Any) -> bool:
    """Whether ``address`` is of the kind that a transport has."""
    try:
        transport.at(address)
    except (ValueError, NotImplementedError):
        return False
    return True


def in_words(returncode: int | None) -> str:
    """How a process has ended."""
    if returncode is None:
        return "nobody knows how"
    if returncode >= 0:
        return f"exit code {returncode}"
    try:
        return f"killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"killed by signal {-returncode}"
