"""The tree has one form: on every backend, in the loop and outside of it, blocked or not."""

from __future__ import annotations

import asyncio
import re
import sys
import threading

import anyio
import pytest
from anyio import create_memory_object_stream, create_task_group

from harness.diagnostics import LoopView, format_tasks
from harness.settling import settle

pytestmark = pytest.mark.harness()


class Chat:
    """A server with something of everything: tasks of its own, queues, a lock, a thread."""

    def __init__(self):
        self.lock = anyio.Lock()
        self.release = threading.Event()
        self.working = threading.Event()

    async def handle(self, stream):
        send, receive = create_memory_object_stream[bytes](1)
        with send, receive:
            async with create_task_group() as tasks:
                tasks.start_soon(self.write, receive, stream)
                tasks.start_soon(self.count)
                async for chunk in stream:
                    await send.send(chunk)
                tasks.cancel_scope.cancel()

    async def write(self, receive, stream):
        async for item in receive:
            await stream.send(item)

    async def count(self):
        async with self.lock:
            await anyio.to_thread.run_sync(self.work)

    def work(self):
        self.working.set()
        self.release.wait()


async def ticks():
    while True:
        await anyio.sleep(3600)
        yield


async def tick():
    async for _ in ticks():
        pass


async def outer():
    async with create_task_group() as first:
        first.start_soon(anyio.sleep_forever, name="in the outer group")
        async with create_task_group() as second:
            second.start_soon(anyio.sleep_forever, name="in the inner group")
            second.start_soon(anyio.sleep_forever, name="in the inner group, too")


GOLDEN = """\
- the test
    tests/diagnostics/test_tree.py:0 in test_the_same_text_on_every_backend: tree = look()
    is running now
- server 'chat'
    waits for connections at HOST:0
  - a handler of server 'chat'
      tests/diagnostics/test_tree.py:0 in handle: async for chunk in stream:
      waits to receive from HOST:0 on connection 1 of server 'chat'
    - test_tree.Chat.write
        tests/diagnostics/test_tree.py:0 in write: async for item in receive:
        waits to receive from a memory object stream: its buffer is empty
    - test_tree.Chat.count
        tests/diagnostics/test_tree.py:0 in count: await anyio.to_thread.run_sync(self.work)
        waits for a thread: Chat.work
          tests/diagnostics/test_tree.py:0 in work: self.release.wait()
          in threading.wait()
  - a handler of server 'chat'
      tests/diagnostics/test_tree.py:0 in handle: async for chunk in stream:
      waits to receive from HOST:0 on connection 2 of server 'chat'
    - test_tree.Chat.write
        tests/diagnostics/test_tree.py:0 in write: async for item in receive:
        waits to receive from a memory object stream: its buffer is empty
    - test_tree.Chat.count
        tests/diagnostics/test_tree.py:0 in count: async with self.lock:
        waits for a lock, held by 'test_tree.Chat.count'
- test_tree.tick
    tests/diagnostics/test_tree.py:0 in tick: async for _ in ticks():
    tests/diagnostics/test_tree.py:0 in ticks: await anyio.sleep(3600)
    sleeps for another 0.0 s
- test_tree.outer
    tests/diagnostics/test_tree.py:0 in outer: async with create_task_group() as second:
    waits for its 2 children
  in its task group 1 of 2, outermost first:
  - in the outer group
      sleeps forever
  in its task group 2 of 2, outermost first:
  - in the inner group
      sleeps forever
  - in the inner group, too
      sleeps forever
connections
  connection 1 of server 'chat': open, 0 bytes in, 0 bytes out, HOST:0 -> HOST:0, in receive()
  connection 2 of server 'chat': open, 0 bytes in, 0 bytes out, HOST:0 -> HOST:0, in receive()
  a client of server 'chat': open, 0 bytes in, 0 bytes out, HOST:0 -> HOST:0
  a client of server 'chat': open, 0 bytes in, 0 bytes out, HOST:0 -> HOST:0
"""


def normalised(tree):
    """The tree without addresses, line numbers, times, and what Python 3.10 does not know."""
    tree = re.sub(r"\n    (?=in receive\(\)|HOST|-> |\d+\.\d+\.\d)", " ", tree)  # folded lines
    tree = re.sub(r"127\.[01]\.0\.1:\d+", "HOST:0", tree)
    tree = re.sub(r"\.py:\d+ in (?:\w+\.)?", ".py:0 in ", tree)
    return re.sub(r"\d+\.\d s", "0.0 s", tree) + "\n"


@pytest.mark.parametrize("where", ["in the loop", "in another thread"])
@pytest.mark.harness(transports=["tcp", "tls", "memory"])
async def test_the_same_text_on_every_backend(harness, where):
    chat = Chat()
    server = await harness.serve(chat, name="chat")
    harness.task_group.start_soon(tick)
    harness.task_group.start_soon(outer)
    clients = []
    for number in range(1, 3):
        clients.append(await server.connect())
        await server.wait_connections(number)
        await harness.settle()
    chat.working.wait()
    if where == "in the loop":
        look = harness.dump
    else:

        def look():
            return in_another_thread(harness.dump)

    try:
        tree = look()
    finally:
        chat.release.set()
    assert all(len(line) <= 100 for line in tree.splitlines())
    expected, found = GOLDEN, normalised(tree)
    if where == "in another thread":
        # The loop's thread stands in Thread.join(), and says so, in some lines of its own.
        found = re.sub(r"(?<=look\(\)\n)(?:    .*\n)*?(?=    is running now)", "", found)
    assert found == expected


def in_another_thread(func):
    """Call ``func()`` in another thread, while this one, and the event loop in it, is blocked."""
    results = []
    thread = threading.Thread(target=lambda: results.append(func()))
    thread.start()
    thread.join()
    return results[0]


def about_the_test(tree):
    head, _, rest = tree.partition("\n- ")
    return head.splitlines(), rest


@pytest.mark.parametrize("how", ["spins", "is blocked"])
@pytest.mark.harness(transports=["tcp", "memory"])
async def test_while_the_loop_makes_no_turn(harness, how):
    async def echo(stream):
        await stream.receive()

    await (await harness.serve(echo)).connect()
    await harness.settle()
    reported = threading.Event()
    trees = []

    def spin():
        entered.set()
        while not reported.is_set(): pass  # fmt: skip  # noqa: E701

    def block():
        entered.set()
        reported.wait()

    def report():
        entered.wait()
        trees.append(harness.dump())
        reported.set()

    entered = threading.Event()
    reporter = threading.Thread(target=report)
    reporter.start()
    if how == "spins":
        spin()
    else:
        block()
    reporter.join()
    head, rest = about_the_test(trees[0])
    assert head[0] == "- the test"
    assert head[-1] == "    is running now"
    assert re.search(r"in (\S+\.)?test_while_the_loop_makes_no_turn: (spin|block)\(\)$", head[1])
    assert re.search(r"in (\S+\.)?(spin: while|block: reported|spin: entered|block: ent)", head[2])
    assert rest.startswith("server 'echo'\n    waits for connections at ")
    assert "waits to receive from" in rest
    assert "connection 1 of server 'echo': open" in rest


async def test_a_callback_that_blocks_the_loop_is_shown(anyio_backend):
    view = LoopView.here()
    trees = []

    def callback():
        trees.append(in_another_thread(lambda: format_tasks(view)))

    token = anyio.lowlevel.current_token()
    done = anyio.Event()

    def from_outside():
        anyio.from_thread.run_sync(callback, token=token)
        anyio.from_thread.run_sync(done.set, token=token)

    thread = threading.Thread(target=from_outside)
    thread.start()
    await done.wait()
    thread.join()
    lines = trees[0].splitlines()
    assert lines[0] == "- a callback of the event loop"
    end = lines.index("    is running now")
    assert any(re.search(r"in (\S+\.)?callback: trees\.append", line) for line in lines[1:end])
    assert lines[end + 1] == "- the test"
    assert lines[-1] == "    waits for an event"


async def test_alike_siblings_are_folded(anyio_backend):
    async def same():
        await anyio.sleep_forever()

    async def other():
        await anyio.Event().wait()

    async with create_task_group() as task_group:
        for number in range(50):
            task_group.start_soon(same, name=f"same {number}")
        task_group.start_soon(other, name="other")
        for number in range(50, 100):
            task_group.start_soon(same, name=f"same {number}")
        await settle()
        tree = format_tasks(LoopView.here())
        task_group.cancel_scope.cancel()
    names = re.findall(r"^ *- (.*)", tree, re.MULTILINE)
    assert names[1:] == ["same 0", "same 1", "same 2", "other"]
    assert tree.count("  ... and 97 more like this") == 1


@pytest.mark.harness(transports=["tcp", "memory"])
async def test_two_hundred_handlers(harness):
    async def echo(stream):
        async for chunk in stream:
            await stream.send(chunk)

    server = await harness.serve(echo)
    for _ in range(200):
        await server.connect()
    await server.wait_connections(200)
    await harness.settle()
    tree = harness.dump()
    assert tree.count("- a handler of server 'echo'") == 3
    # the handlers, their connections, the clients
    assert re.findall(r"^ *\.\.\. and (\d+) more like this$", tree, re.MULTILINE) == ["197"] * 3
    assert len(tree.splitlines()) < 40


async def test_handlers_that_differ_below_are_not_folded(anyio_backend):
    async def parent(children):
        async with create_task_group() as below:
            for _ in range(children):
                below.start_soon(anyio.sleep_forever)

    async with create_task_group() as task_group:
        for number in range(5):
            task_group.start_soon(parent, 2 if number == 4 else 1)
        await settle()
        tree = format_tasks(LoopView.here())
        task_group.cancel_scope.cancel()
    assert tree.count("parent\n") == 4
    assert tree.count("... and 1 more like this") == 1
    assert tree.count("waits for its 2 children") == 1


async def test_a_deep_tree_and_a_deep_stack(anyio_backend):
    depth = 300

    async def descend(left):
        if not left:
            await recurse(100)
        async with create_task_group() as below:
            below.start_soon(descend, left - 1)

    async def recurse(left):
        if left:
            await recurse(left - 1)
        else:
            await anyio.sleep_forever()

    async with create_task_group() as task_group:
        task_group.start_soon(descend, depth)
        await settle()
        tree = format_tasks(LoopView.here())
        narrow = format_tasks(LoopView.here(), width=60)
        task_group.cancel_scope.cancel()
    lines = tree.splitlines()
    assert all(len(line) <= 100 for line in lines)
    assert all(len(line) <= 60 for line in narrow.splitlines())
    assert tree.count("- ") > depth
    assert f"- (level {depth + 1}) " in tree
    assert lines[-2].strip().startswith(".../test_tree.py:")
    assert "... and 99 more frames of it" in tree
    assert lines[-1].strip() == "sleeps forever"


async def test_long_names_and_lines_are_cut(anyio_backend):
    async def wait():
        await anyio.sleep_forever(); "a very long line of source, " * len("that has to be cut off")  # fmt: skip  # noqa: E501, E702

    async with create_task_group() as task_group:
        task_group.start_soon(wait, name="n" * 500)
        await settle()
        for width in (100, 60):
            tree = format_tasks(LoopView.here(), width=width)
            assert max(map(len, tree.splitlines())) == width
        task_group.cancel_scope.cancel()


async def test_tasks_can_be_left_out(anyio_backend):
    async with create_task_group() as task_group:
        task_group.start_soon(outer, name="secret")
        task_group.start_soon(tick)
        await settle()
        tree = format_tasks(LoopView.here(), hide={"secret"})
        task_group.cancel_scope.cancel()
    assert "tick" in tree
    assert "secret" not in tree
    assert "group" not in tree.replace("create_task_group", "")


@pytest.mark.harness(transports=["memory"])
async def test_a_crowd_that_comes_and_goes_while_another_thread_looks(harness):
    async def come_and_go():
        async with create_task_group() as crowd:
            for _ in range(20):
                crowd.start_soon(anyio.lowlevel.checkpoint)

    stop = threading.Event()
    failures = []
    looked = []

    def look():
        try:
            while not stop.is_set():
                looked.append(harness.dump())
        except BaseException as exc:
            failures.append(exc)
            raise

    thread = threading.Thread(target=look)
    thread.start()
    try:
        while len(looked) < 20 and not failures:
            await come_and_go()
    finally:
        stop.set()
        thread.join()
    assert not failures


async def test_dump_works_in_a_worker_thread_and_after_the_end(harness):
    waits = threading.Event()

    def look():
        waits.wait()  # before, the tree would say that the test is about to
        return harness.dump()

    async def tell():
        await settle()
        waits.set()

    async with create_task_group() as task_group:
        task_group.start_soon(tell)
        tree = await anyio.to_thread.run_sync(look)
    assert "    waits for a thread: look\n" in tree
    await harness.aclose()
    assert harness.dump().startswith("- the test\n")


@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_tasks_of_asyncio_itself_have_their_functions_name(anyio_backend):
    task = asyncio.create_task(tick())
    await settle()
    try:
        tree = format_tasks(LoopView.here())
        assert f"\n- {__name__.rpartition('.')[2]}.tick\n" in tree
        assert "Task-" not in tree
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with Python 3.11")
@pytest.mark.harness(backends=["asyncio", "uvloop"])
async def test_a_task_group_of_asyncio_has_its_children_below_it(anyio_backend):
    async def parent():
        async with asyncio.TaskGroup() as below:
            below.create_task(anyio.sleep_forever(), name="child")

    async with create_task_group() as task_group:
        task_group.start_soon(parent, name="parent")
        await settle()
        tree = format_tasks(LoopView.here())
        task_group.cancel_scope.cancel()
    assert re.search(r"- parent\n.*\n +waits for its child\n +- child\n +sleeps forever", tree)


@pytest.mark.harness(backends=["trio"])
async def test_system_tasks_of_trio_are_left_out_unless_they_run_user_code(anyio_backend):
    import trio

    scope = trio.CancelScope()

    async def mine():
        with scope:
            await tick()

    trio.lowlevel.spawn_system_task(mine, name="mine")
    await settle()
    tree = format_tasks(LoopView.here())
    scope.cancel()
    assert re.findall(r"^ *- (.*)", tree, re.MULTILINE) == ["the test", "mine"]
