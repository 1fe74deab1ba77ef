"""What the commands have in common: how their parsers are made."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[ArgumentParser]


def add_command(
    commands: Commands,
    name: str,
    run: Callable[[Namespace], int],
    *,
    does: str,
    description: str,
    epilog: str,
) -> ArgumentParser:
    """The parser of one more command.

    :param does: what it does, in the list of commands
    """
    parser = commands.add_parser(
        name,
        help=does,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_folder(parser: ArgumentParser, what: str) -> None:
    """The argument FOLDER, which is the current one by default."""
    parser.add_argument("folder", nargs="?", default=".", metavar="FOLDER", help=what)
