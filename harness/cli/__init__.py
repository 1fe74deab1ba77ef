"""``python -m harness``: the harness by hand, without tests.

A command is one module with a function :func:`add_to`, which makes its parser and sets ``run`` to
what runs it: a function of the parsed arguments that returns the exit code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import doctor, init, proxy

if TYPE_CHECKING:
    from .command import Commands

#: Each makes the parser of one command.
COMMANDS: tuple[Callable[[Commands], object], ...] = (
    init.add_to,
    doctor.add_to,
    proxy.add_to,
)

#: The exit code after Ctrl-C where nothing has taken it: 128 and the number of the signal.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return the exit code.

    :param arguments: those of the process by default
    :raises SystemExit: after ``--help``, with 0; with 2 for arguments that are wrong
    """
    parser = argparse.ArgumentParser(
        prog="python -m harness",
        description="A test harness for network servers and clients on AnyIO, by hand.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_to in COMMANDS:
        add_to(commands)
    options = parser.parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
