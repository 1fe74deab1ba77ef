"""``python -m harness proxy``: a proxy of :mod:`harness.faults` in front of anything, by hand."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from .. import faults
from ..backends import BUILT_IN
from ..core import open_harness
from ..faults import Proxy
from ..faults.latency import DISTRIBUTIONS
from ..seeds import draw
from ..transports import Transport
from . import arguments
from .arguments import Address, in_words
from .command import add_command
from .counts import Counts, Lines, reason

if TYPE_CHECKING:
    from .command import Commands

#: What ends it. One that the process was started with as ignored, as by nohup, stays so.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

EPILOG = """\
The first line of the output is the address, for scripts: HOST:PORT, [IPV6]:PORT, or the path.
Everything else is told on stderr: on a terminal, counts in one line; otherwise, a line for each
connection that has ended.

It runs until Ctrl-C or SIGTERM. The exit code is then 0, as that is how it ends; it is 1 if it
cannot listen, and 2 for arguments that are wrong.

TIME has a unit: us, ms, s, m, h. SIZE is in bytes, or has a unit: B, kB, MB, GB (powers of 1000),
KiB, MiB, GiB (of 1024). SHARE is a number from 0 to 1.

The toxics act in the order in which they are named. The same seed gives the same faults, and the
same as harness.proxy(..., seed=SEED) in a test.
"""


class NamesToxic(argparse.Action):
    """Takes a note of the order in which toxics are named, besides the value."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.dest in namespace.toxics:
            parser.error(f"argument {option_string}: given twice; each toxic can be there once")
        setattr(namespace, self.dest, values)
        namespace.toxics = [*namespace.toxics, self.dest]


#: Descriptors that it asks the system for; each connection takes two.
DESCRIPTORS = 65536

#: What makes a toxic, by the name of the option that asks for it.
TOXICS: dict[str, Callable[[Namespace], faults.Toxic]] = {
    "latency": lambda given: faults.Latency(
        given.latency, given.jitter or 0.0, given.distribution or "uniform"
    ),
    "bandwidth": lambda given: faults.Bandwidth(given.bandwidth),
    "slice": lambda given: faults.Slicer(
        given.slice, given.slice_variation or 0, given.slice_delay or 0.0
    ),
    "limit_data": lambda given: faults.LimitData(given.limit_data),
    "reset_after": lambda given: (
        faults.ResetPeer(after_bytes=given.reset_after)
        if isinstance(given.reset_after, int)
        else faults.ResetPeer(given.reset_after)
    ),
    "timeout": lambda given: faults.Timeout(given.timeout),
    "blackhole": lambda given: faults.Blackhole(given.blackhole),
    "corrupt": lambda given: faults.Corrupt(given.corrupt),
    "drop": lambda given: faults.Drop(given.drop),
    "duplicate": lambda given: faults.Duplicate(given.duplicate),
    "half_close": lambda given: faults.HalfClose(given.half_close),
    "slow_accept": lambda given: faults.SlowAccept(given.slow_accept),
    "slow_close": lambda given: faults.SlowClose(given.slow_close),
    "refuse": lambda given: faults.Refuse(),
}

#: Options that only mean something beside another one.
BESIDE = {
    "jitter": "latency",
    "distribution": "latency",
    "slice_variation": "slice",
    "slice_delay": "slice",
}


def add_to(commands: Commands) -> None:
    """Make the parser of the command."""
    parser = add_command(
        commands,
        "proxy",
        run,
        does="a proxy in front of anything, which breaks connections on purpose",
        description="A proxy in front of anything, which breaks connections on purpose.",
        epilog=EPILOG,
    )
    parser.set_defaults(toxics=[])
    parser.add_argument(
        "--upstream",
        required=True,
        type=arguments.address,
        metavar="ADDRESS",
        help="what it stands in front of: HOST:PORT, [IPV6]:PORT or the path of a unix socket",
    )
    parser.add_argument(
        "--listen",
        type=arguments.address,
        metavar="ADDRESS",
        help="where it listens, port 0 for a free one; by default somewhere of the same kind",
    )
    parser.add_argument("--seed", help="what its random choices follow from; drawn by default")
    parser.add_argument(
        "--backend", choices=list(BUILT_IN), default="asyncio", help="asyncio by default"
    )
    parser.add_argument("--quiet", action="store_true", help="say nothing but the address")
    parser.add_argument(
        "--direction",
        choices=["upstream", "downstream", "both"],
        default="downstream",
        help="which bytes the toxics act on: those for the server, for the client (the default), "
        "or both",
    )
    parser.add_argument(
        "--toxicity",
        type=arguments.share,
        metavar="SHARE",
        default=1.0,
        help="the share of connections that each toxic acts on; all by default",
    )
    _add_toxics(parser.add_argument_group("toxics"))


def _add_toxics(group: argparse._ArgumentGroup) -> None:
    def toxic(name: str, kind: Callable[[str], Any], metavar: str, text: str, **more: Any) -> None:
        group.add_argument(name, action=NamesToxic, type=kind, metavar=metavar, help=text, **more)

    def beside(name: str, kind: Callable[[str], Any], metavar: str, text: str) -> None:
        group.add_argument(name, type=kind, metavar=metavar, help=text)

    toxic("--latency", arguments.seconds, "TIME", "every byte is late")
    beside("--jitter", arguments.seconds, "TIME", "how far a byte's latency may be from that")
    group.add_argument("--distribution", choices=list(DISTRIBUTIONS), help="of the jitter")
    toxic("--bandwidth", arguments.rate, "SIZE", "so many bytes a second and no more")
    toxic("--slice", arguments.size, "SIZE", "cut into pieces of about so many bytes")
    beside("--slice-variation", arguments.size, "SIZE", "how far a piece may be from that")
    beside("--slice-delay", arguments.seconds, "TIME", "wait after each piece")
    toxic("--limit-data", arguments.size, "SIZE", "end the connection after so many bytes (FIN)")
    toxic(
        "--reset-after",
        arguments.time_or_size,
        "TIME|SIZE",
        "break the connection after so long or so many bytes (RST)",
    )
    toxic("--timeout", arguments.seconds, "TIME", "stall, and end the connection after a while")
    toxic(
        "--blackhole",
        arguments.seconds,
        "TIME",
        "lose all bytes, and end the connection after a while, or never",
        nargs="?",
    )
    toxic("--corrupt", arguments.share, "SHARE", "change so many of the bytes")
    toxic("--drop", arguments.share, "SHARE", "lose so many pieces of 1 KiB")
    toxic("--duplicate", arguments.share, "SHARE", "send so many pieces of 1 KiB twice")
    toxic("--half-close", arguments.seconds, "TIME", "end one direction after a while (FIN)")
    toxic("--slow-accept", arguments.seconds, "TIME", "connect to the server only after a while")
    toxic("--slow-close", arguments.seconds, "TIME", "the end of the stream (FIN) is late")
    group.add_argument("--refuse", action=NamesToxic, nargs=0, help="refuse connections")


def run(options: Namespace) -> int:
    """Run the command; return the exit code."""
    parser: argparse.ArgumentParser = options.parser
    backend = BUILT_IN[options.backend]
    missing = backend.missing()
    if missing is not None:
        parser.error(f"argument --backend: {missing}")
    if isinstance(options.upstream, tuple) and options.upstream[1] == 0:
        parser.error(
            f"argument --upstream: nobody listens at port 0 ({in_words(options.upstream)})"
        )
    toxics = _toxics(options)
    try:
        transport = _transport(options.listen)
    except OSError as exc:
        parser.error(f"argument --listen: {options.listen[0]!r}: {reason(exc)}")
    _ask_for_descriptors()
    return anyio.run(
        _serve,
        options,
        toxics,
        transport,
        backend=backend.library,
        backend_options=dict(backend.options),
    )


def _toxics(options: Namespace) -> list[faults.Toxic]:
    """What the options ask for, in their order; ends the process if that cannot be."""
    for name, other in BESIDE.items():
        if getattr(options, name) is not None and other not in options.toxics:
            options.parser.error(f"argument {_option(name)}: needs {_option(other)} beside it")
    if options.toxicity != 1.0 and not options.toxics:
        options.parser.error("argument --toxicity: needs a toxic beside it")
    made = []
    for name in options.toxics:
        try:
            made.append(TOXICS[name](options))
        except ValueError as exc:
            options.parser.error(f"argument {_option(name)}: {exc}")
    return made


def _ask_for_descriptors() -> None:
    """Many systems give a process 256 or 1024, and as many as it wants if it asks."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _transport(listen: Address | None) -> Transport | None:
    """What listens at an address. Raises :exc:`OSError` for a host that is not known."""
    if listen is None:
        return None
    if isinstance(listen, str):
        from ..transports.unix import UnixTransport

        return UnixTransport(listen)
    from ..transports.tcp import TCPTransport

    host, port = listen
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return TCPTransport(str(found[0][4][0]), port)


async def _serve(
    options: Namespace, toxics: Sequence[faults.Toxic], transport: Transport | None
) -> int:
    seed = str(draw()) if options.seed is None else options.seed
    lines = Lines(sys.stderr, quiet=options.quiet)
    async with open_harness(seed=seed) as harness:
        with anyio.open_signal_receiver(*_signals()) as signals:
            try:
                proxy = await harness.proxy(options.upstream, transport=transport, seed=seed)
            except OSError as exc:
                where = "" if options.listen is None else f" at {in_words(options.listen)}"
                print(
                    f"{options.parser.prog}: error: cannot listen{where}: {exc.strerror or exc}",
                    file=sys.stderr,
                )
                return 1
            for toxic in toxics:
                proxy.add(toxic, direction=options.direction, toxicity=options.toxicity)
            counts = Counts(proxy, in_words(options.upstream), lines)
            print(in_words(proxy.address), flush=True)
            lines.say(f"in front of {in_words(options.upstream)}, {_in_words(proxy)}, seed {seed}")
            async with anyio.create_task_group() as group:
                group.start_soon(counts.refresh)
                async for _ in signals:
                    break
                group.cancel_scope.cancel()
        await proxy.disable()
        lines.say(str(counts))
    return 0


def _in_words(proxy: Proxy) -> str:
    if not proxy.toxics:
        return "without toxics"
    first = proxy.toxics[0]
    toxics = " ".join(repr(active.toxic) for active in proxy.toxics)
    return f"{first.direction}, toxicity {first.toxicity:g}: {toxics}"


def _signals() -> list[signal.Signals]:
    known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    return [each for each in known if signal.getsignal(each) is not signal.SIG_IGN]
