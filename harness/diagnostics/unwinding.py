"""Whether an exception was on its way out of the code when another one took its place.

Python keeps, as the context of an exception, whatever was being handled when that was raised:

    async with client:             |    try:
        assert answer == b"hello"  |        port = ports["http"]
    # cancelled in __aexit__:      |    except KeyError:
    # the assertion is lost        |        await look_it_up()  # cancelled; nothing is lost

Which of them it was can only be told from the source: the innermost statement around the line that
raised the first and the line that met the second, in the frame that both have passed, is a `with`,
a `finally`, or a handler. Where that cannot be told, nothing is taken for lost.
"""

from __future__ import annotations

import ast
import linecache
import sys
from functools import lru_cache
from types import FrameType, TracebackType
from typing import Any, Union

from .stacks import is_user_code

#: Statements that may be left by an exception. ``ast.TryStar`` came with Python 3.11.
TRIES: tuple[type[ast.AST], ...] = (ast.Try,)
if sys.version_info >= (3, 11):
    TRIES = (ast.Try, ast.TryStar)


#: Context managers that swallow exceptions, by the names that they are called by.
SWALLOWING = ("raises", "suppress")


def was_on_its_way_out(error: BaseException, replaced_by: BaseException) -> bool:
    """Whether ``error``, in the context of ``replaced_by``, would have gone on without it."""
    traceback = error.__traceback__  # begins in the frame that it had come to
    if traceback is None:
        return False
    passed: list[tuple[FrameType, int]] = []
    above = passed
    met_at: int | None = None
    other: TracebackType | None = replaced_by.__traceback__
    while other is not None:
        passed.append((other.tb_frame, other.tb_lineno))
        if other.tb_frame is traceback.tb_frame:
            met_at = other.tb_lineno  # the last entry: where the other one came into the frame
            above = passed[:-1]
        other = other.tb_next
    if met_at is None or not _leaves(traceback.tb_frame, traceback.tb_lineno, met_at, error):
        return False
    return not any(
        _catches(statement, error, frame)
        for frame, line in above
        if frame is not traceback.tb_frame and is_user_code(frame)  # contextlib catches all
        for statement in _around(frame, line)
    )


def _leaves(frame: FrameType, raised: int, met_at: int, error: BaseException) -> bool:
    """Whether ``error``, raised at line ``raised``, passes line ``met_at`` on its way out."""
    # From the inside: what it has come through already, where it is, what is still to come.
    statements = reversed(_around(frame, raised))
    for statement in statements:
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            if _in_header(met_at, statement):
                if _catches(statement, error, frame):  # by another of its items
                    return False
                break
        else:
            if _within(met_at, statement.finalbody):
                break
            here = [each for each in statement.handlers if _within(met_at, each.body)]
            if here and _within(raised, statement.body):
                if _raises_again(here[0]):
                    break
                return False
    else:
        return False
    return not any(_catches(statement, error, frame, raised) for statement in statements)


Statement = Union[ast.With, ast.AsyncWith, ast.Try]  # noqa: UP007 (evaluated)


def _catches(
    statement: Statement, error: BaseException, frame: FrameType, line: int | None = None
) -> bool:
    """Whether ``error`` ends at ``statement``, when it is raised inside, or rather whether it may.

    :param line: where it is raised, if that may be outside of what a ``try`` guards
    """
    if isinstance(statement, (ast.With, ast.AsyncWith)):
        return any(
            _matches(kind, error, frame)
            for item in statement.items
            if isinstance(item.context_expr, ast.Call)
            and _name(item.context_expr.func).rpartition(".")[2] in SWALLOWING
            for kind in item.context_expr.args or (None,)
        )
    if line is not None and not _within(line, statement.body):
        return False
    for handler in statement.handlers:
        if _matches(handler.type, error, frame):
            return not _raises_again(handler)
    return False


def _matches(kind: ast.expr | None, error: BaseException, frame: FrameType) -> bool:
    """Whether ``except kind`` takes ``error``; true for a type that cannot be found."""
    if isinstance(kind, ast.Tuple):
        return any(_matches(each, error, frame) for each in kind.elts)
    first, *attributes = _name(kind).split(".")
    namespace = frame.f_globals if first in frame.f_globals else frame.f_builtins
    found = namespace.get(first)
    for each in attributes:
        found = getattr(found, each, None)
    try:
        return isinstance(error, found)  # type: ignore[arg-type]
    except TypeError:
        return True


def _name(node: ast.expr | None) -> str:
    """``a.b.c`` of such an expression; empty for another."""
    if isinstance(node, ast.Attribute):
        return f"{_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _around(frame: FrameType, line: int) -> list[Statement]:
    """The statements of the function of ``frame`` that ``line`` is inside of, outer ones first."""
    code = frame.f_code
    statements = _statements(code.co_filename, "".join(linecache.getlines(code.co_filename)))
    found = []
    for statement in statements:
        body = statement.body
        inside = False
        if isinstance(statement, (ast.With, ast.AsyncWith)):
            # Each of its items is inside of those before it.
            inside = len(statement.items) > 1 and _in_header(line, statement)
        else:
            body = [*body, *(each for part in statement.handlers for each in part.body)]
            body += statement.orelse
        if statement.lineno >= code.co_firstlineno and (inside or _within(line, body)):
            found.append(statement)
    return found


@lru_cache(maxsize=16)
def _statements(file: str, source: str) -> tuple[Statement, ...]:
    """The statements of ``source`` at which an exception may end or wait, outer ones first."""
    try:
        tree = ast.parse(source, file)
    except (SyntaxError, ValueError):
        return ()
    found: list[Any] = [
        node for node in ast.walk(tree) if isinstance(node, (ast.With, ast.AsyncWith, *TRIES))
    ]
    return tuple(sorted(found, key=lambda node: (node.lineno, node.col_offset)))


def _in_header(line: int, statement: ast.With | ast.AsyncWith) -> bool:
    return (
        statement.lineno
        <= line
        <= max(item.context_expr.end_lineno or 0 for item in statement.items)
    )


def _within(line: int, body: list[ast.stmt]) -> bool:
    return bool(body) and body[0].lineno <= line <= (body[-1].end_lineno or body[-1].lineno)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    """Whether it ends with a plain ``raise``, or with one of what it has caught."""
    last = handler.body[-1]
    if not isinstance(last, ast.Raise) or last.cause is not None:
        return False
    if last.exc is None:
        return True
    return isinstance(last.exc, ast.Name) and last.exc.id == handler.name
