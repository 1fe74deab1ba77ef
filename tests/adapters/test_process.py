"""Servers in processes: started, reached, killed, started again, and never left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest

import anyio
import pytest
from anyio import ConnectionFailed, EndOfStream
from blackbox import BOUND

from harness import DidNotStop, Harness, open_harness
from harness.adapters import Process, ProcessEnded, child, watchdog
from harness.adapters.process import name_of
from harness.leaks.children import children, kin_of

pytestmark = pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")

#: It starts quickly, and ``-I`` ignores PYTHONUNBUFFERED.
PYTHON = [sys.executable, "-S", "-I", "-u"]
SERVER = [*PYTHON, str(Path(__file__).with_name("echo_process.py"))]
AT_A_PORT = r"listening on (?P<url>tcp://\S+)"
needs_proc = pytest.mark.skipif(
    not (os.path.exists("/proc/self/stat") and hasattr(os, "pidfd_open")), reason="needs Linux"
)


def at_port(*options: str, **more) -> Process:
    more.setdefault("ready", AT_A_PORT)
    return Process([*SERVER, "--host", "{host}", "--port", "{port}", *options], **more)


def on_fd(*options: str, **more) -> Process:
    return Process([*SERVER, "--fd", "{fd}", *options], **more)


async def ask(target, question: bytes = b"hello") -> bytes:
    async with await target.connect() as client:
        await client.send(question)
        return await client.receive()


def state_of(pid: int, options: int):
    return os.waitid(os.P_PID, pid, options | os.WNOWAIT)


def has_ended(pid: int) -> bool:
    """Whether a process ends that was killed, and is no child of this one: it may take a moment."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(BOUND * 1000))
    finally:
        os.close(descriptor)


# Where it is


@pytest.mark.harness(transports=["tcp", "tcp6"])
async def test_it_says_its_port(harness: Harness):
    process = at_port()
    server = await harness.serve(process)
    assert server.host == harness.transport.host
    assert server.name == "echo_process.py"
    assert await ask(server, b"pid") == str(process.pid).encode()
    address = server.address
    await server.restart()
    assert server.address == address
    assert await ask(server, b"pid") == str(process.pid).encode()


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_a_socket_that_listens_already(harness: Harness):
    process = on_fd()
    server = await harness.serve(process)
    address = server.address
    assert await ask(server) == b"hello"
    await process.kill()
    await server.restart()
    assert server.address == address
    assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["tls"])
@pytest.mark.parametrize("where", [["--fd", "{fd}"], ["--port", "{port}"]], ids=["fd", "port"])
async def test_with_tls(harness: Harness, where):
    files = ["--certfile", "{certfile}", "--keyfile", "{keyfile}"]
    ready = None if "--fd" in where else r"on tcp://(?P<host>.*):(?P<port>\d+)"
    server = await harness.serve(Process([*SERVER, *where, *files], ready=ready))
    assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["unix"])
async def test_at_a_path(harness: Harness):
    """Nobody has removed the socket of a process that was killed, and the next one finds none."""
    process = Process([*SERVER, "--unix", "{path}"], ready="listening")
    server = await harness.serve(process)
    assert await ask(server) == b"hello"
    path = server.path
    await process.kill()
    assert os.listdir(os.path.dirname(path))
    await server.restart()
    assert server.path == path
    assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize(
    ("announce", "ready"),
    [
        ("listening at {port}", r"at (?P<port>\d+)$"),
        ("listening at 127.0.0.1:{port}", r"at (?P<host>.*):(?P<port>\d+)"),
        ("listening at 0.0.0.0:{port}", r"at (?P<host>.*):(?P<port>\d+)"),
        ("http://127.0.0.1:{port}/{{", r"(?P<url>http://[^/]*)"),
    ],
)
async def test_however_it_says_where(harness: Harness, announce, ready):
    said = announce.replace("{", "{{").replace("}", "}}")
    assert await ask(await harness.serve(at_port("--announce", said, ready=ready))) == b"hello"


@pytest.mark.harness(transports=["unix"])
async def test_it_says_its_path(harness: Harness, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("s") / "s")
    process = Process([*SERVER, "--unix", path], ready=r"unix:(?P<path>.*)")
    server = await harness.serve(process)
    assert server.path == path
    assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["tcp"])
async def test_at_an_address_that_everybody_knows(harness: Harness):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))  # it keeps the port, and does not listen
        port = probe.getsockname()[1]
        command = [*SERVER, "--port", str(port)]
        server = await harness.serve(Process(command, ready="listening", address=port))
        assert server.port == port
        assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["tcp"])
async def test_its_environment_and_directory(harness: Harness, tmp_path):
    program = (
        "import os, time; print(os.environ['GIVEN'], os.environ['HOME'], os.getcwd(), 'ready');"
        "time.sleep(100)"
    )
    process = Process(
        [sys.executable, "-c", program],
        ready=r"at (?P<port>\d+) \{\}",
        env={"GIVEN": "at {fd} {{}}"},
        cwd=tmp_path,
    )
    await harness.serve(process)
    assert process.output[0].endswith(f" {os.environ['HOME']} {tmp_path} ready")


@pytest.mark.harness(transports=["tcp"])
async def test_its_port_is_nobody_elses_while_it_is_down(harness: Harness):
    server = await harness.serve(at_port())
    await server.stop()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", server.port))
    await server.restart()
    assert await ask(server) == b"hello"


# Where it cannot be


@pytest.mark.harness(transports=["tcp", "unix", "tls", "memory"])
async def test_over_another_transport_it_is_skipped(harness: Harness):
    tls = ["--certfile", "{certfile}"]
    possible = {
        "tcp": [at_port(), on_fd()],
        "unix": [Process([*SERVER, "--unix", "{path}"], ready="listening"), on_fd()],
        "tls": [on_fd(*tls), at_port(tls=True)],
        "memory": [],
    }
    for name, shapes in possible.items():
        for shape in shapes:
            plain = {name, harness.transport.name} == {"tcp", "unix"} and "{fd}" in shape.command
            if name != harness.transport.name and not plain:
                with pytest.raises(SkipTest):
                    await harness.serve(shape)
    if harness.transport.name == "memory":
        with pytest.raises(SkipTest, match="transport 'memory' has no socket for it"):
            await harness.serve(on_fd())
        with pytest.raises(ValueError, match=r"speaks no TLS; give it \{certfile\} and"):
            await harness.serve(on_fd(), transport="tls")
        with pytest.raises(ValueError, match="is at a port, and transport 'unix' has none"):
            await harness.serve(at_port(), transport="unix")
        with pytest.raises(ValueError, match="is at a path, and transport 'tcp' has none"):
            await harness.serve(possible["unix"][0], transport="tcp")


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (["{prot}"], {}, r"unknown placeholder \{prot\} in '\{prot\}'; there are \{port\}, \{host"),
        (['{"a": 1}'], {}, "unknown placeholder"),
        (["{port!r}"], {}, "unknown placeholder"),
        (["{fd}", "{port}"], {}, "is given no other address"),
        (["{port}"], {}, "ready= has to tell"),
        (["{port}"], {"ready": "listening"}, "nobody would know where the server is"),
        ([], {"ready": "(?P<host>.*)"}, "nobody would know where the server is"),
    ],
)
def test_what_cannot_be_meant(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        Process(["server", *arguments], **options)


@pytest.mark.parametrize("command", ["server --port 0", b"server", [], 1])
def test_what_is_no_command(command):
    with pytest.raises(TypeError, match="takes a list of a program and its arguments"):
        Process(command, ready="(?P<port>1)")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/python3", "-X", "dev", "-m", "myserver", "-v"], "myserver"),
        (["python", "/srv/app.py", "x"], "app.py"),
        (["python", "-c", "import this"], "python"),
        (["/usr/bin/redis-server", "-m"], "redis-server"),
    ],
)
def test_names(command, name):
    assert name_of(command) == name


# Before it is ready


@pytest.mark.harness(transports=["tcp"])
async def test_it_ends_before_it_is_ready(harness: Harness):
    with pytest.raises(ProcessEnded) as caught:
        await harness.serve(at_port("--fails"), name="api")
    assert caught.value.returncode == 3
    assert caught.value.output == ["no configuration"]
    text = str(caught.value)
    assert text.startswith("process 'api' has ended (exit code 3): " + sys.executable)
    assert text.endswith("--port 0 --fails\nits last output:\n  no configuration")


@pytest.mark.harness(transports=["tcp"])
async def test_a_program_that_is_not_there(harness: Harness):
    with pytest.raises(FileNotFoundError, match="no-such-server"):
        await harness.serve(Process(["no-such-server", "{fd}"]))


@pytest.mark.harness(transports=["tcp"])
async def test_what_it_waits_for_is_told(harness: Harness):
    process = at_port("--announce", "hello")
    async with anyio.create_task_group() as group:
        group.start_soon(harness.serve, process)
        while process.pid is None:
            await harness.settle()
        await process.wait_output("hello")
        await harness.settle()
        said = f"waits for a line of process {process.pid} that matches '{AT_A_PORT}'"
        assert said.replace("\\", "\\\\") in harness.dump()
        group.cancel_scope.cancel()
    assert process.pid is None


@pytest.mark.harness(transports=["tcp"])
async def test_a_port_that_is_none(harness: Harness):
    with pytest.raises(ValueError, match="invalid literal"):
        await harness.serve(at_port(ready="listening (?P<port>on)"))


# Its life


@pytest.mark.harness(transports=["tcp"])
async def test_kill_and_restart(harness: Harness):
    process = at_port()
    server = await harness.serve(process)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    before, address = process.pid, server.address
    await process.kill()
    assert process.returncode == -signal.SIGKILL
    assert process.pid is None
    with pytest.raises(EndOfStream):
        await client.receive()
    with pytest.raises(ConnectionFailed, match=r"was killed; restart\(\) starts it again"):
        await server.connect()
    await process.kill()
    await process.terminate()
    await server.restart()
    assert process.pid not in (None, before)
    assert process.returncode is None
    assert server.address == address
    assert await ask(server) == b"hello"


@pytest.mark.harness(transports=["tcp"])
async def test_terminate(harness: Harness):
    process = on_fd()
    server = await harness.serve(process)
    await ask(server)
    await process.terminate()
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(ConnectionFailed, match="was terminated"):
        await server.connect()


@pytest.mark.harness(transports=["tcp"])
async def test_it_does_not_terminate(harness: Harness):
    process = at_port("--deaf")
    server = await harness.serve(process)
    server._cancel_timeout = 0
    with pytest.raises(DidNotStop, match=rf"\({process.pid}\) did not end within 0 s of SIGTERM"):
        await process.terminate()
    assert await ask(server) == b"hello"
    await process.kill()


@pytest.mark.harness(transports=["tcp"])
async def test_stop_asks_and_then_kills(harness: Harness):
    process = at_port()
    server = await harness.serve(process)
    await server.stop()
    assert process.returncode == -signal.SIGTERM
    deaf = at_port("--deaf")
    server = await harness.serve(deaf)
    await server.stop(grace=0)
    assert deaf.returncode == -signal.SIGKILL


@pytest.mark.harness(transports=["tcp"])
async def test_pause_and_resume(harness: Harness):
    process = on_fd()
    server = await harness.serve(process)
    client = await server.connect()
    await client.send(b"one")
    assert await client.receive() == b"one"
    await process.pause()
    if hasattr(os, "waitid"):
        assert state_of(process.pid, os.WSTOPPED | os.WNOHANG).si_status == signal.SIGSTOP
    await client.send(b"two")
    process.resume()
    assert await client.receive() == b"two"
    await process.pause()
    await server.stop()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.harness(transports=["tcp"])
async def test_signals(harness: Harness):
    process = on_fd()
    for each in (process.resume, lambda: process.send_signal(signal.SIGUSR1)):
        with pytest.raises(RuntimeError, match=r"'echo_process.py' is not running"):
            each()
    with pytest.raises(RuntimeError, match=r"'echo_process.py' is not running"):
        await process.pause()
    server = await harness.serve(process)
    await ask(server)
    process.send_signal(signal.SIGINT)
    with pytest.raises(ProcessEnded):
        await process.wait_output("never")
    assert process.returncode == -signal.SIGINT
    with pytest.raises(ConnectionFailed, match="was sent SIGINT"):
        await server.connect()


@pytest.mark.harness(transports=["tcp"])
async def test_two_servers_need_two_processes(harness: Harness):
    process = on_fd()
    await harness.serve(process)
    with pytest.raises(RuntimeError, match="make another Process for another"):
        await harness.serve(process)
    assert process.pid is not None


@pytest.mark.harness(transports=["tcp"])
async def test_behind_a_proxy(harness: Harness):
    process = at_port()
    server = await harness.serve(process)
    proxy = await harness.proxy(server)
    client = await proxy.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
    await process.kill()
    with pytest.raises(EndOfStream):
        await client.receive()
    await server.restart()
    assert await ask(proxy) == b"hello"


# Its output


@pytest.mark.harness(transports=["tcp"])
async def test_wait_output(harness: Harness):
    process = at_port()
    server = await harness.serve(process)
    match = await process.wait_output("listening on (.*)")
    assert match[1] == server.url("tcp")
    before = process.line_count
    assert before == 2
    client = await server.connect()
    async with anyio.create_task_group() as group:

        @group.start_soon
        async def _():
            assert (await process.wait_output("wor.d"))[0] == "world"

        await harness.settle()
        assert "waits for a line of process" in harness.dump()
        await client.send(b"say hello world")
    assert process.output[-1] == "hello world"
    assert (await process.wait_output("hello", since=before))[0] == "hello"
    await process.kill()
    with pytest.raises(ProcessEnded, match=r"killed by SIGKILL"):
        await process.wait_output("listening", since=before)
    await server.restart()
    await process.wait_output("listening")


@pytest.mark.harness(transports=["tcp"])
async def test_output_is_always_text(harness: Harness):
    program = (
        "import os, time; os.write(1, b'x' * 70000 + b'\\n\\xff\\r\\nlast {{}}'); time.sleep(99)"
    )
    process = Process([*PYTHON, "-c", program], ready="\ufffd", address=1)
    server = await harness.serve(process)
    await server.stop()
    assert process.output == ["x" * 65536, "x" * (70000 - 65536), "\ufffd", "last {}"]


@pytest.mark.harness(transports=["tcp"])
async def test_output_is_bounded(harness: Harness):
    program = "import os, time; os.write(1, b'y\\n' * 2000 + b'z\\n'); time.sleep(99)"
    process = Process([*PYTHON, "-c", program], ready="y", address=1)
    await harness.serve(process)
    await process.wait_output("z")
    assert process.output == ["y"] * 999 + ["z"]
    assert process.line_count == 2001


# When it ends by itself


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize(
    ("command", "returncode", "words"),
    [
        (b"exit 0", 0, "exit code 0"),
        (b"exit 7", 7, "exit code 7"),
        (b"crash", -signal.SIGSEGV, "killed by SIGSEGV"),
    ],
    ids=["0", "7", "signal"],
)
async def test_a_crash_ends_the_test(harness: Harness, command, returncode, words):
    with pytest.raises(ProcessEnded, match=rf"'echo_process.py' has ended \({words}\)") as caught:
        async with open_harness(transport="tcp") as inner:
            server = await inner.serve(on_fd())
            client = await server.connect()
            await client.send(command)
            await anyio.sleep_forever()
    assert caught.value.returncode == returncode
    assert ("as you wish" in str(caught.value)) == command.startswith(b"exit")


@pytest.mark.harness(transports=["tcp"])
async def test_a_crash_that_is_expected(harness: Harness):
    process = on_fd()
    server = await harness.serve(process, expect=ProcessEnded, expect_required=True)
    client = await server.connect()
    await client.send(b"exit 7")
    with pytest.raises(ProcessEnded) as caught:
        await process.wait_output("never")
    assert server.errors == [caught.value]
    assert process.returncode == 7
    with pytest.raises(ConnectionFailed, match="has ended by itself"):
        await server.connect()
    await server.restart()
    assert await ask(server) == b"hello"


#: Its connection ends before it does, for as long as an interpreter may take to end.
DYING = """
import socket, sys, time
client, _ = socket.socket(fileno=int(sys.argv[1])).accept()
client.recv(10)
client.close()
time.sleep(0.1)
1 / 0
"""


@pytest.mark.harness(transports=["tcp", "unix"])
async def test_the_end_of_its_connection_is_not_what_the_test_fails_of(harness: Harness):
    await fail_of_its_end(harness)


@pytest.mark.harness(transports=["tcp"])
async def test_the_end_of_its_connection_in_virtual_time(harness: Harness, virtual_clock):
    await fail_of_its_end(harness)


async def fail_of_its_end(harness: Harness):
    with pytest.raises(ProcessEnded, match="exit code 1") as caught:
        async with open_harness(transport=harness.transport) as inner:
            await inner.serve(on_fd())
            server = await inner.serve(Process([*PYTHON, "-c", DYING, "{fd}"]))
            client = await server.connect()
            await client.send(b"x")
            await client.receive()
    assert "then raised EndOfStream()" in caught.value.__notes__[0]


@pytest.mark.harness(transports=["tcp"])
async def test_a_connection_that_ends_while_it_runs(harness: Harness):
    with pytest.raises(EndOfStream):
        async with open_harness(transport="tcp") as inner:
            await (await inner.serve(on_fd())).connect()
            raise EndOfStream


@pytest.mark.harness(transports=["tcp"])
async def test_wait(harness: Harness):
    process = on_fd()
    with pytest.raises(RuntimeError, match=r"'echo_process.py' has not been started"):
        await process.wait()
    server = await harness.serve(process, expect=ProcessEnded)
    client = await server.connect()
    async with anyio.create_task_group() as group:

        @group.start_soon
        async def _():
            assert await process.wait() == 7
            assert [error.returncode for error in server.errors] == [7]

        await harness.settle()
        assert f"waits for process {process.pid} to end" in harness.dump()
        await client.send(b"exit 7")
    assert await process.wait() == 7
    await server.restart()
    await process.kill()
    assert await process.wait() == -signal.SIGKILL


@pytest.mark.harness(transports=["tcp"])
async def test_a_crash_of_which_nobody_has_heard_when_it_is_stopped(harness: Harness):
    process = on_fd()
    server = await harness.serve(process, expect=ProcessEnded)
    await ask(server)
    os.kill(process.pid, signal.SIGKILL)
    state_of(process.pid, os.WEXITED)
    await server.stop()
    assert [error.returncode for error in server.errors] == [-signal.SIGKILL]


@pytest.mark.harness(transports=["tcp"])
async def test_what_the_report_says_of_it(harness: Harness):
    process = on_fd()
    server = await harness.serve(process, name="api")
    where = f"{server.host}:{server.port}"
    runs = f"- server 'api'\n    runs as process {process.pid}, reached at {where}\n"
    assert runs in harness.dump()
    await process.kill()
    assert "- server 'api'\n    was killed" in harness.dump()
    await server.restart()
    assert f"- server 'api'\n    runs as process {process.pid}, " in harness.dump()
    await server.stop()
    assert "\n- server 'api'" not in harness.dump()


# Nothing is left


@needs_proc
@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("how", ["plain", "group", "session"])
async def test_what_it_has_started_ends_with_it(harness: Harness, how):
    process = at_port("--grandchild", how)
    server = await harness.serve(process)
    grandchild = int((await process.wait_output(r"grandchild (\d+)"))[1])
    assert kin_of(process.pid) == {grandchild}
    if how == "plain":
        await server.stop()
    else:
        await process.kill()
    assert has_ended(grandchild)


@needs_proc
@pytest.mark.harness(transports=["tcp"])
async def test_what_is_left_of_one_that_has_ended(harness: Harness):
    process = at_port("--grandchild", "group")
    server = await harness.serve(process, expect=ProcessEnded)
    grandchild = int((await process.wait_output(r"grandchild (\d+)"))[1])
    client = await server.connect()
    await client.send(b"exit 0")
    with pytest.raises(ProcessEnded):
        await process.wait_output("never")
    assert has_ended(grandchild)


@pytest.mark.harness(transports=["tcp"])
@pytest.mark.parametrize("without", ["pidfd", "thread"])
async def test_where_there_is_no_pidfd(harness: Harness, monkeypatch, without):
    def refuse(pid):
        raise PermissionError

    if without == "pidfd":
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    else:
        monkeypatch.delattr(os, "pidfd_open", raising=False)
    process = on_fd()
    server = await harness.serve(process)
    await ask(server)
    await process.terminate()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.harness(transports=["tcp"])
async def test_no_descriptor_for_its_end(harness: Harness, monkeypatch):
    def fails(pid):
        raise OSError("no descriptors left")

    monkeypatch.setattr(child, "Exit", fails)
    process = on_fd()
    before = children()
    with pytest.raises(OSError, match="no descriptors left"):
        await harness.serve(process)
    assert children() - {watchdog.pid} == before - {watchdog.pid}


@pytest.mark.harness(transports=["tcp"])
async def test_a_loop_that_was_interrupted(harness: Harness):
    """Nothing can be awaited then."""
    process = on_fd()
    server = await harness.serve(process)
    await ask(server)
    before = watchdog.pid
    pid = process.pid
    process.release()
    process.release()
    assert children() & {pid} == set()
    await server.stop()
    assert (process.pid, process.returncode) == (None, -signal.SIGKILL)
    assert watchdog.pid == before


@pytest.mark.harness(transports=["tcp"])
async def test_the_watchdog_is_started_again(harness: Harness):
    await harness.serve(on_fd(), name="first")
    before = watchdog.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    state_of(before, os.WEXITED)
    await harness.serve(on_fd(), name="second")
    await harness.serve(on_fd(), name="third")
    assert watchdog.pid not in (None, before)
    watchdog._stop(kill=True)  # or the next test would be the first to have started it


@pytest.mark.harness(transports=["tcp"])
async def test_a_fork_leaves_the_watchdog_to_its_parent(harness: Harness):
    await harness.serve(on_fd())
    forked = os.fork()
    if forked == 0:
        os._exit(0 if watchdog.pid is None else 1)
    _, status = os.waitpid(forked, 0)  # noqa: ASYNC222 (it ends at once)
    assert status == 0
    assert watchdog.pid is not None


# In virtual time


@pytest.mark.harness(transports=["tcp"])
async def test_virtual_time_goes_on_beside_it(harness: Harness, virtual_clock):
    process = at_port()
    server = await harness.serve(process)
    assert virtual_clock.now == 0
    await anyio.sleep(1000)
    with anyio.fail_after(1):
        assert await ask(server) == b"hello"
    await anyio.sleep(1000)
    with anyio.fail_after(1):
        await process.pause()
        process.resume()
        await process.kill()
        await server.restart()
        await process.terminate()
    await server.restart()
    assert virtual_clock.now == 2000


@pytest.mark.harness(transports=["tcp"])
async def test_virtual_time_waits_for_its_output(harness: Harness, virtual_clock):
    program = "import time; print('ready'); time.sleep(0.1); print('done'); time.sleep(100)"
    process = Process([*PYTHON, "-c", program], ready="ready", address=1)
    await harness.serve(process)
    with anyio.fail_after(0.01):
        await process.wait_output("done")
    assert virtual_clock.now == 0


@pytest.mark.harness(transports=["tcp"])
async def test_what_is_deaf_gets_its_grace_in_virtual_time(harness: Harness, virtual_clock):
    process = at_port("--deaf")
    server = await harness.serve(process, grace=0.05)
    await server.stop()
    assert process.returncode == -signal.SIGKILL
    assert virtual_clock.now == 0.05


# In a run of pytest

PREAMBLE = f"""
import os
import signal
import sys

import anyio
import pytest

from harness import open_harness
from harness.adapters import Process, watchdog

SERVER = {SERVER!r}
"""


def test_the_report_of_a_failure(pytester: pytest.Pytester, run_pytest):
    pytester.makepyfile(
        PREAMBLE
        + """
@pytest.fixture(scope="module")
async def shared(anyio_backend):
    async with open_harness(transport="tcp") as harness:
        process = Process([*SERVER, "--fd", "{fd}"])
        server = await harness.serve(process, name="shared")
        await process.wait_output("listening")
        yield process, server

async def say(process, server, words):
    async with await server.connect() as client:
        await client.send(b"say " + words)
        await process.wait_output(words.decode())

pytestmark = pytest.mark.harness(backends=["asyncio"], transports=["tcp"])

async def test_it_passes(shared):
    await say(*shared, b"nobody will see this")

async def test_it_fails(harness, shared):
    process = Process([*SERVER, "--fd", "{fd}"])
    server = await harness.serve(process, name="own")
    for number in range(60):
        await say(process, server, b"line %d" % number)
    await say(*shared, b"everybody will see this")
    assert process.pid is None

async def test_it_crashes(harness):
    process = Process([*SERVER, "--fd", "{fd}"])
    server = await harness.serve(process)
    client = await server.connect()
    await client.send(b"exit 5")
    await anyio.sleep_forever()
"""
    )
    result = run_pytest("-rA")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*_ test_it_fails[[]asyncio-tcp] _*",
            "*- output of process 'shared' -*",
            "everybody will see this",
            "*- output of process 'own' -*",
            "(12 lines before)",
            "line 10",
            "line 59",
            "*_ test_it_crashes[[]asyncio-tcp] _*",
            "*ProcessEnded: process 'echo_process.py' has ended (exit code 5): *--fd *",
            "*its last output:",
            "*as you wish",
            "*- output of process 'echo_process.py' -*",
            "as you wish",
        ]
    )
    result.stdout.no_fnmatch_line("*nobody will see this*")
    result.stdout.no_fnmatch_line("line 9")


def test_the_end_of_its_connection_is_not_the_failure(
    pytester: pytest.Pytester, run_pytest, backend: str
):
    pytester.makeconftest(
        """
        def pytest_exception_interact(call):
            print("failed with", call.excinfo.typename)
        """
    )
    pytester.makepyfile(
        f"""
import sys
import pytest
from harness.adapters import Process, serve_blocking

DYING = {DYING!r}

def dying():
    return Process([*{PYTHON!r}, "-c", DYING, "{{fd}}"])

@pytest.mark.harness(transports=["tcp"])
async def test_receives(harness):
    client = await (await harness.serve(dying())).connect()
    await client.send(b"x")
    await client.receive()

@pytest.mark.harness(transports=["tcp"])
async def test_waits(harness):
    process = dying()
    client = await (await harness.serve(process)).connect()
    await client.send(b"x")
    await process.wait()

def test_blocking():
    with serve_blocking(dying(), backend={backend!r}) as server, server.connect() as client:
        client.send(b"x")
        assert client.recv(10)
"""
    )
    result = run_pytest(f"--harness-backends={backend}", "-s")
    result.assert_outcomes(failed=3)
    assert result.stdout.str().count("failed with ProcessEnded") == 3


def test_a_server_that_is_never_ready(pytester: pytest.Pytester, run_pytest):
    pytester.makepyfile(
        PREAMBLE
        + """
@pytest.mark.harness(transports=["tcp"], timeout=2)
async def test_it(harness):
    await harness.serve(Process([*SERVER, "--port", "{port}"], ready="(?P<url>at http://.*)"))
"""
    )
    result = run_pytest("--harness-backends=asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*the body did not end within 2 s*",
            "*- server 'echo_process.py'",
            "*waits for a line of process * that matches '(?P<url>at http://.*)'",
            "*- output of process 'echo_process.py' -*",
            "listening on tcp://*",
        ]
    )


def test_what_it_has_written_is_short_and_true(pytester: pytest.Pytester, run_pytest):
    pytester.makepyfile(
        PREAMBLE
        + """
@pytest.mark.harness(transports=["tcp"])
async def test_it(harness):
    code = "import time; print('x' * 5000); print('and then', end='', flush=True); time.sleep(60)"
    await harness.serve(Process([sys.executable, "-c", code], ready="(?P<port>!)"))

pytestmark = pytest.mark.harness(timeout=2)
"""
    )
    result = run_pytest("--harness-backends=asyncio")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*- output of process *",
            "x" * 1000 + "... (5000 characters)",
            "and then (and no end of that line)",
        ]
    )


KILLED = (
    PREAMBLE
    + """
@pytest.mark.harness(transports=["unix"])
@pytest.mark.parametrize("number", [1, 2])
async def test_it(harness, number):
    process = Process([*SERVER, "--unix", "{path}", "--grandchild", "group"], ready="listening")
    server = await harness.serve(process)
    found = await process.wait_output(r"grandchild (.*)")
    with open(f"told-{number}", "w") as told:
        print(watchdog.pid, process.pid, found[1], server.path, file=told)
    if number == 2 or "PYTEST_XDIST_WORKER" in os.environ:
        os.kill(os.getpid(), signal.KILLED_BY)
"""
)


@needs_proc
@pytest.mark.parametrize("killed_by", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_nothing_is_left_if_pytest_is_killed(pytester, monkeypatch, backend, killed_by):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makepyfile(KILLED.replace("KILLED_BY", killed_by))
    command = [sys.executable, "-m", "pytest", "-p", "no:randomly", f"--harness-backends={backend}"]
    run = subprocess.run(command, timeout=BOUND, capture_output=True, check=False)
    expected = 2 if killed_by == "SIGINT" else -getattr(signal, killed_by)
    assert run.returncode == expected, run.stdout
    assert_nothing_left(pytester.path, ["told-1", "told-2"])


@needs_proc
def test_nothing_is_left_of_workers_of_xdist(pytester: pytest.Pytester, run_pytest):
    pytest.importorskip("xdist")
    pytester.makepyfile(KILLED.replace("KILLED_BY", "SIGKILL"))
    run_pytest("-n2", "--harness-backends=asyncio", mode="autoload")
    assert_nothing_left(pytester.path, ["told-1", "told-2"])


def assert_nothing_left(directory: Path, told: list[str]) -> None:
    for name in told:
        *processes, path = (directory / name).read_text().split()
        for pid in processes:
            assert has_ended(int(pid))
        assert not os.path.exists(os.path.dirname(path))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"command": ["cat", 8080]}, TypeError, "an argument has to be a string, not 8080"),
        ({"env": {"PORT": 3}}, TypeError, "env has strings only, and not 'PORT': 3"),
        ({"ready": "on (?P<port>"}, ValueError, "ready=.* is no regular expression: missing"),
    ],
)
def test_what_a_process_cannot_be_made_of(options, error, message):
    with pytest.raises(error, match=message):
        Process(**{"command": ["cat"], "ready": r"(?P<port>\d+)", **options})
