"""The report of what is running: one tree of tasks with what each waits for, and the connections.

::

    - the test
        tests/test_echo.py:14 in test_echo: reply = await client.receive()
        waits to receive from 127.0.0.1:40117 (server 'echo')
    - server 'echo'
        waits for connections at 127.0.0.1:40117
      - a handler of server 'echo'
          chat/server.py:31 in echo: await self.ready.wait()
          waits for an event

A task stands below the one that its task group was entered in. The tasks of the machinery itself
(AnyIO's runner when it has nothing to run, trio's system tasks, the hosts of the harness) are left
out, so that the tree has the same form on every backend.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace
from types import FrameType

from .connections import ALIKE, LiveConnection, format_connections, masked
from .loopview import CALLBACK, RUNNER, TEST, LoopView, TaskRecord
from .stacks import format_frames, is_machinery, is_user_code, shorten, wrapped
from .threads import frames_of, thread_lines
from .waits import Surroundings, Wait, wait_of

#: How deep the indentation goes; what is deeper says how deep it is.
DEEPEST_INDENT = 20

#: What stands below another line is at least this wide, whatever the indentation.
NARROWEST = 40


def format_tasks(
    view: LoopView,
    *,
    connections: Iterable[LiveConnection] = (),
    ended: Iterable[tuple[str, str]] = (),
    width: int = 100,
    hide: Collection[str] = (),
) -> str:
    """What runs in the event loop of ``view``, and ``connections``, as text.

    May be called in any thread, whether the loop runs, is blocked or spins.

    :param connections: what streams are called, and the list at the end
    :param ended: servers that have no task any more: the name of each, and how it has ended
    :param width: no line is longer, in characters
    :param hide: names of tasks that are left out, together with what is below them
    """
    connections = list(connections)
    lines = _Tree(view, connections, width, hide).lines()
    for name, end in ended:
        lines.append(shorten(f"- server {name!r}", width))
        lines.extend(f"    {line}" for line in wrapped(end, width - 4))
    if connections:
        lines.append("connections")
        listed = format_connections(connections, width=width - 2)
        lines.extend(f"  {line}" for line in listed)
    return "\n".join(lines)


#: The task of an event loop in a thread of AnyIO's, which waits to be given something to do.
PORTAL = "anyio.from_thread.start_blocking_portal.<locals>.run_portal"


class _Node:
    """A task and the lines about it."""

    def __init__(self, task: TaskRecord, stack: list[tuple[FrameType, int]]) -> None:
        self.task = task
        self.stack = stack
        self.children: list[_Node] = []
        self.depth = 0
        #: the same number for tasks that look alike, with all that is below them
        self.kind = 0

    def is_structure(self) -> bool:
        """Whether it is a task of the machinery, which only holds others."""
        if not self.stack or self.task.name == PORTAL:
            return True
        outermost = self.stack[0][0]
        function = outermost.f_code.co_name
        module = str(outermost.f_globals.get("__name__", ""))
        if module.startswith("trio._core") or function == RUNNER:
            return not any(is_user_code(frame) for frame, _ in self.stack)
        if (module, function) == ("harness.steps", "_main") and not self.children:
            return self.stands_at_its_yield()
        hosts = {
            ("harness.supervisor", "_host"),
            # trio's nursery around a step of a test
            ("harness.steps", "around"),
            # The task in which asyncio's runner of AnyIO's tests waits for the other one.
            ("anyio._backends._asyncio", "_call_in_runner_task"),
        }
        return (module, function) in hosts

    def stands_at_its_yield(self) -> bool:
        """Whether it is a fixture that tests are using: it does nothing."""
        return not any(is_user_code(frame) for frame, _ in self.stack)


class _Tree:
    def __init__(
        self,
        view: LoopView,
        connections: Iterable[LiveConnection],
        width: int,
        hide: Collection[str],
    ) -> None:
        self.view = view
        self.width = width
        self.deepest = max(min(DEEPEST_INDENT, (width - NARROWEST - 4) // 2), 0)
        self.thread = view.frame()
        self.surroundings = Surroundings(
            view.time(),
            {id(each.record): each for each in connections},
            sys._current_frames(),
            stands_still=view.thread_id == threading.get_ident(),
        )
        tasks = view.tasks()
        self.nodes = {task.id: _Node(task, task.stack(self.thread)) for task in tasks}
        roots: list[_Node] = []
        for node in self.nodes.values():
            parent = self.nodes.get(node.task.parent or 0)
            (roots if parent is None else parent.children).append(node)
        self.hide = hide
        self.roots = self._without_structure(roots)
        self._runs = any(task.state == "running" for task in tasks)

    def _without_structure(self, roots: list[_Node]) -> list[_Node]:
        """``roots``, but where one is only structure, what is below it.

        The test first, then the rest in the order in which it was started.
        """
        found: list[_Node] = []
        waiting = roots[::-1]
        while waiting:
            node = waiting.pop()
            if node.task.name in self.hide:
                continue
            if node.is_structure():
                waiting.extend(reversed(node.children))
            else:
                found.append(node)
        found.sort(key=lambda node: (node.task.name != CALLBACK, not _is_runner(node.task)))
        return found

    def lines(self) -> list[str]:
        """The whole tree. Without recursion: trees may be deeper than Python's stack."""
        ordered: list[_Node] = []
        waiting = self.roots[::-1]
        while waiting:
            node = waiting.pop()
            ordered.append(node)
            children = [each for each in node.children if each.task.name not in self.hide]
            children.sort(key=lambda each: each.task.group)  # stable: by age within a group
            node.children = children
            for child in children:
                child.depth = node.depth + 1
            waiting.extend(reversed(children))
        texts = {node: self._text(node) for node in ordered}
        kinds: dict[object, int] = {}
        for node in reversed(ordered):  # children before their parents
            name, body = texts[node]
            looks = (masked(name), *(_kind_of(line) for line in body))
            below = tuple((child.task.group, child.kind) for child in node.children)
            node.kind = kinds.setdefault((looks, below), len(kinds))
        lines = self._callback()
        # Pairs of a node and a line of its own, the last first.
        pending: list[_Node | str] = self._folded(self.roots, "")[::-1]
        while pending:
            each = pending.pop()
            if isinstance(each, str):
                lines.append(each)
                continue
            name, body = texts[each]
            indent = self._indent(each.depth)
            level = f"(level {each.depth}) " if each.depth > self.deepest else ""
            lines.append(shorten(f"{indent}- {level}{name}", self.width))
            lines.extend(f"{indent}    {line}" for line in body)
            pending.extend(reversed(self._below(each)))
        return lines

    def _below(self, node: _Node) -> list[_Node | str]:
        """What stands below a task: its children, by task group where there are several."""
        groups: dict[tuple[int, int], list[_Node]] = defaultdict(list)
        for child in node.children:
            groups[child.task.group].append(child)
        indent = self._indent(node.depth + 1)
        if len(groups) < 2:
            return self._folded(node.children, indent)
        found: list[_Node | str] = []
        for number, children in enumerate(groups.values(), 1):
            found.append(f"{indent}in its task group {number} of {len(groups)}, outermost first:")
            found.extend(self._folded(children, indent))
        return found

    def _folded(self, siblings: list[_Node], indent: str) -> list[_Node | str]:
        total = Counter(node.kind for node in siblings)
        seen: Counter[int] = Counter()
        found: list[_Node | str] = []
        for node in siblings:
            seen[node.kind] += 1
            if seen[node.kind] <= ALIKE:
                found.append(node)
            if seen[node.kind] == ALIKE and total[node.kind] > ALIKE:
                found.append(f"{indent}... and {total[node.kind] - ALIKE} more like this")
        return found

    def _indent(self, depth: int) -> str:
        return "  " * min(depth, self.deepest)

    def _text(self, node: _Node) -> tuple[str, list[str]]:
        task = node.task
        width = max(self.width - len(self._indent(node.depth)) - 4, NARROWEST)
        if task.state == "running" and self.thread is not None and node.stack:
            stack = thread_lines(self.thread, width=width, outermost=node.stack[0][0])
            return task.name, [*stack, "is running now"]
        stack = format_frames(
            [place for place in node.stack if is_user_code(place[0])], width=width
        )
        groups = {child.task.group for child in node.children}
        inmost = max(groups, default=None)
        children = sum(child.task.group == inmost for child in node.children)
        surroundings = replace(self.surroundings, children=children)
        wait = wait_of(task, node.stack, surroundings)
        sentence = wrapped(wait.text + self._when_cancelled(task, wait), width)
        lines = [*stack, *sentence]
        if wait.thread is not None:
            lines.extend(f"  {line}" for line in thread_lines(wait.thread, width=width - 2))
        return task.name, lines

    def _when_cancelled(self, task: TaskRecord, wait: Wait) -> str:
        cancelled = task.cancelled()
        if cancelled is not None:
            shielded = cancelled == "shielded" and not wait.uncancellable
            return " (cancelled, but shielded)" if shielded else " (cancelled)"
        deadline = task.deadline()
        if math.isinf(deadline) or deadline >= wait.until:
            return ""
        return f" (cancelled in {max(deadline - self.view.time(), 0):.1f} s)"

    def _callback(self) -> list[str]:
        """The stack of what runs when no task does: a callback of the loop, or what is outside."""
        if self._runs or self.thread is None:
            return []
        frames = frames_of(self.thread)
        start = 0
        for number, frame in enumerate(frames):
            module = str(frame.f_globals.get("__name__", ""))
            if is_machinery(frame) and not module.startswith("harness"):
                start = number + 1
        inner = frames[start:]
        if not any(is_user_code(frame) for frame in inner):
            return []
        lines = thread_lines(self.thread, width=self.width - 4, outermost=inner[0])
        lines.append("is running now")
        return [f"- {_who_calls(frames[:start])}", *(f"    {line}" for line in lines)]


#: The functions of pytest that call a fixture (``_pytest/fixtures.py``), and where they have it.
_CALL_FIXTURES = {"pytest_fixture_setup": "fixturedef", "finish": "self"}


def _who_calls(frames: list[FrameType]) -> str:
    """What it is that was called, outside of all tasks, by the innermost of ``frames``."""
    for frame in reversed(frames):
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        function = frame.f_code.co_name
        if top in ("asyncio", "anyio", "trio", "uvloop"):
            return CALLBACK
        if module == "_pytest.fixtures" and function in _CALL_FIXTURES:
            fixture = frame.f_locals.get(_CALL_FIXTURES[function])
            return f"fixture {getattr(fixture, 'argname', '')!r}"
        if module == "_pytest.python" and function == "pytest_pyfunc_call":
            return TEST
    return CALLBACK if not frames else TEST


def _is_runner(task: TaskRecord) -> bool:
    qualified = str(getattr(task.coroutine, "__qualname__", ""))
    return task.name == TEST or qualified.endswith(RUNNER)


def _kind_of(line: str) -> str:
    """A line without what differs between two tasks that do the same: numbers of the wait."""
    return masked(line) if line.startswith(("waits", "sleeps", "  ")) else line
