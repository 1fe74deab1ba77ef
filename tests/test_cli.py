"""``python -m harness``, in a process of its own, with plain sockets on both sides."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import anyio
import pytest
from anyio.abc import ByteStream
from blackbox import BOUND

from harness import faults, open_harness
from harness.cli import main
from harness.faults import Corrupt, Toxic

#: Runs the harness as under `ulimit -S -n 32`.
FEW_DESCRIPTORS = """
import resource, sys
from harness.cli import main
resource.setrlimit(resource.RLIMIT_NOFILE, (32, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
sys.exit(main())
"""

DATA = bytes(range(256)) * 4


class Echo(socketserver.BaseRequestHandler):
    """Sends back what it receives, and keeps account of connections that have ended."""

    def handle(self) -> None:
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            pass
        self.server.ended.release()  # type: ignore[attr-defined]


@contextmanager
def serving(cls: Any, address: Any) -> Iterator[Any]:
    with cls(address, Echo) as server:
        server.ended = threading.Semaphore(0)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def echo() -> Iterator[Any]:
    with serving(socketserver.ThreadingTCPServer, ("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def upstream(echo: Any) -> str:
    return "{}:{}".format(*echo.server_address)


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary directory, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as made:
        monkeypatch.setenv("TMPDIR", made)
        yield Path(made)


class Proxy:
    """``python -m harness proxy``, started, ready, and with a bound."""

    def __init__(
        self,
        upstream: str,
        *arguments: str,
        backend: str,
        stderr: int = subprocess.PIPE,
        python: Sequence[str] = ("-m", "harness"),
    ) -> None:
        command = ["proxy", "--upstream", upstream, "--backend", backend, *arguments]
        self.process = subprocess.Popen(
            [sys.executable, *python, *command], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        self.bound = threading.Timer(BOUND, self.process.kill)
        self.bound.start()
        stdout: IO[str] | None = self.process.stdout
        assert stdout is not None
        self.address = stdout.readline().removesuffix("\n")

    def connect(self) -> socket.socket:
        if "/" in self.address:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(BOUND)
            client.connect(self.address)
            return client
        host, _, port = self.address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=BOUND)

    def stop(self, by: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Its exit code, and what it has said on stderr."""
        self.process.send_signal(by)
        stdout, stderr = self.process.communicate()
        assert stdout == ""  # no more than the address
        return self.process.returncode, stderr or ""

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.bound.cancel()
        self.bound.join()


def assert_echoes(client: socket.socket) -> None:
    client.sendall(DATA)
    assert receive(client, len(DATA)) == DATA


def receive(client: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer if the stream ends."""
    data = b""
    while len(data) < count and (chunk := client.recv(count - len(data))):
        data += chunk
    return data


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_passes_bytes_on_until_it_is_stopped(
    echo: Any, upstream: str, directory: Path, backend: str, by: signal.Signals
) -> None:
    with Proxy(upstream, "--listen", "127.0.0.1:0", backend=backend) as proxy:
        host, _, port = proxy.address.rpartition(":")
        assert host == "127.0.0.1"
        with proxy.connect() as first, proxy.connect() as second:
            assert_echoes(first)
            assert_echoes(second)
            first.shutdown(socket.SHUT_WR)
            assert first.recv(1) == b""
            assert_echoes(second)
            code, said = proxy.stop(by)
            assert code == 0
            assert second.recv(1) == b""
        for _ in range(2):
            assert echo.ended.acquire(timeout=BOUND)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind((host, int(port)))
            free.listen()
    assert os.listdir(directory) == []
    lines = said.splitlines()
    assert lines[0].startswith(f"in front of {upstream}, without toxics, seed ")
    assert re.fullmatch(
        r"connection 1 from 127\.0\.0\.1:\d+: finished, 1\.0 kB up, 1\.0 kB down", lines[1]
    )
    assert re.fullmatch(r"connection 2 from \S+: disconnected, 2\.0 kB up, 2\.0 kB down", lines[2])
    assert lines[3:] == ["0 live of 2 accepted, 3.1 kB up, 3.1 kB down"]


@pytest.mark.parametrize("fixed", [True, False])
def test_unix_sockets(directory: Path, backend: str, fixed: bool) -> None:
    upstream = str(directory / "up")
    listen = ("--listen", str(directory / "down")) if fixed else ()
    with serving(socketserver.ThreadingUnixStreamServer, upstream):
        with Proxy(upstream, *listen, backend=backend) as proxy:
            assert os.path.dirname(proxy.address)
            assert proxy.address != upstream
            assert (proxy.address in listen) is fixed
            with proxy.connect() as client:
                assert_echoes(client)
            assert proxy.stop()[0] == 0
        assert os.listdir(directory) == ["up"]


def test_a_unix_socket_in_front_of_tcp(directory: Path, upstream: str, backend: str) -> None:
    path = str(directory / "s")
    with Proxy(upstream, "--listen", path, backend=backend) as proxy:
        assert proxy.address == path
        with proxy.connect() as client:
            assert_echoes(client)
        assert proxy.stop()[0] == 0
    assert os.listdir(directory) == []


def test_an_address_that_is_taken(upstream: str, backend: str) -> None:
    with Proxy(upstream, "--listen", upstream, backend=backend) as proxy:
        assert proxy.address == ""
        assert proxy.process.wait() == 1
        assert proxy.stop()[1].splitlines() == [
            f"python -m harness proxy: error: cannot listen at {upstream}: Address already in use"
        ]


def test_latency(upstream: str, backend: str) -> None:
    with Proxy(upstream, "--latency", "200ms", backend=backend) as proxy, proxy.connect() as client:
        start = time.monotonic()
        assert_echoes(client)
        assert time.monotonic() - start >= 0.199  # uvloop counts whole milliseconds
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        assert re.search(r"1\.0 kB down; Latency [1-9]", proxy.stop()[1])


def test_the_direction(upstream: str, backend: str) -> None:
    limit = ("--limit-data", "3", "--direction", "upstream")
    with Proxy(upstream, *limit, backend=backend) as proxy, proxy.connect() as client:
        client.sendall(b"hello")
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 5) in (b"", b"hel")  # it has ended both directions
        assert ": disconnected, 3 B up" in proxy.stop()[1]


def test_the_toxicity(upstream: str, backend: str) -> None:
    never = ("--refuse", "--toxicity", "0")
    with Proxy(upstream, *never, backend=backend) as proxy, proxy.connect() as client:
        assert_echoes(client)
    with Proxy(upstream, "--refuse", backend=backend) as proxy:
        with pytest.raises(ConnectionResetError), proxy.connect() as client:
            client.recv(1)
        assert ": reset, 0 B up, 0 B down; Refuse 1" in proxy.stop()[1]


def test_the_same_seed_as_in_a_test(upstream: str, backend: str) -> None:
    arguments = ("--corrupt", "0.05", "--seed", "7")
    with Proxy(upstream, *arguments, backend=backend) as proxy, proxy.connect() as client:
        client.sendall(DATA)
        corrupted = receive(client, len(DATA))

    async def send(stream: ByteStream) -> None:
        await stream.send(DATA)

    async def in_a_test() -> bytes:
        data = b""
        async with open_harness() as harness:
            server = await harness.serve(send)
            proxy = await harness.proxy(server, Corrupt(0.05), seed=7)
            async for chunk in await proxy.connect():
                data += chunk
        return data

    assert corrupted != DATA
    assert corrupted == anyio.run(in_a_test)


def test_a_server_that_is_not_there(backend: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        upstream = "{}:{}".format(*nobody.getsockname())
        with Proxy(upstream, backend=backend) as proxy:
            with pytest.raises(ConnectionResetError), proxy.connect() as client:
                client.recv(1)
            nobody.listen()
            with proxy.connect() as client:
                accepted, _ = nobody.accept()
                with accepted:
                    client.sendall(b"hello")
                    assert receive(accepted, 5) == b"hello"
            code, said = proxy.stop()
    assert code == 0
    assert re.search(
        rf"^connection 1 from \S+: cannot connect to {upstream}: Connection refused$", said, re.M
    )
    assert re.search(r"^connection 2 from \S+: \w+, 5 B up, 0 B down$", said, re.M)


def test_a_terminal_has_one_line_of_counts(upstream: str, backend: str) -> None:
    ours, theirs = pty.openpty()
    shown = ""

    def read_until(text: str | None) -> None:
        nonlocal shown
        while text is None or text not in shown:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # the other end is closed, as Linux says it
                chunk = b""
            if not chunk:
                assert text is None, shown
                return
            shown += chunk.decode()

    try:
        with Proxy(upstream, "--slice", "10", backend=backend, stderr=theirs) as proxy:
            os.close(theirs)
            read_until("\r0 live of 0 accepted, 0 B up, 0 B down")
            with proxy.connect() as client:
                assert_echoes(client)
                read_until("\r1 live of 1 accepted, 1.0 kB up, 1.0 kB down; Slicer ")
            read_until("\r0 live of 1 accepted, 1.0 kB up, 1.0 kB down; Slicer ")
            assert proxy.stop(signal.SIGINT)[0] == 0
        read_until(None)
    finally:
        os.close(ours)
    first, last, nothing = shown.split("\r\n")
    assert first.startswith("\rin front of")
    assert re.search(r"\r0 live of 1 accepted, 1\.0 kB up, 1\.0 kB down; Slicer \d+ *$", last)
    assert nothing == ""


def test_nobody_listens_to_what_it_says(upstream: str, backend: str) -> None:
    with Proxy(upstream, backend=backend) as proxy:
        assert proxy.process.stderr is not None
        proxy.process.stderr.close()
        proxy.process.stderr = None
        for _ in range(2):
            with proxy.connect() as client:
                assert_echoes(client)
        assert proxy.stop()[0] == 0


def test_more_connections_than_a_process_is_given_descriptors(upstream: str, backend: str) -> None:
    python = ("-c", FEW_DESCRIPTORS)
    with Proxy(upstream, backend=backend, python=python) as proxy, ExitStack() as clients:
        for _ in range(40):
            assert_echoes(clients.enter_context(proxy.connect()))
        assert proxy.stop()[0] == 0


def test_quiet(upstream: str, backend: str) -> None:
    with Proxy(upstream, "--quiet", "--latency", "1ms", backend=backend) as proxy:
        with proxy.connect() as client:
            assert_echoes(client)
        assert proxy.stop() == (0, "")


def test_it_needs_no_pytest(upstream: str, backend: str) -> None:
    run = "import sys; sys.modules['pytest'] = None; from harness.cli import main; sys.exit(main())"
    with Proxy(upstream, backend=backend, python=("-c", run)) as proxy, proxy.connect() as client:
        assert_echoes(client)


def test_every_toxic_has_an_option(upstream: str) -> None:
    options = (
        "--latency 1.5m --jitter 20ms --distribution normal --bandwidth 64KB/s --slice 100 "
        "--slice-variation 10 --slice-delay 3us --limit-data 10KiB --reset-after 2h --timeout 5s "
        "--blackhole --corrupt 0.001 --drop 1 --duplicate 0.01 --half-close 6s --slow-accept 7s "
        "--slow-close 8s --refuse --direction both --toxicity 0.5 --seed abc"
    )
    with Proxy(upstream, *shlex.split(options), backend="asyncio") as proxy:
        first = proxy.stop()[1].splitlines()[0]
    assert first == (
        f"in front of {upstream}, both, toxicity 0.5: "
        "Latency(delay=90.0, jitter=0.02, distribution='normal') Bandwidth(rate=64000) "
        "Slicer(average_size=100, size_variation=10, delay=3e-06) LimitData(limit=10240) "
        "ResetPeer(after=7200.0, after_bytes=None) Timeout(after=5.0) Blackhole(after=None) "
        "Corrupt(probability=0.001, replacement=None) Drop(probability=1.0, average_size=1024) "
        "Duplicate(probability=0.01, average_size=1024) HalfClose(after=6.0) "
        "SlowAccept(delay=7.0) SlowClose(delay=8.0) Refuse(), seed abc"
    )
    toxics = [getattr(faults, name) for name in faults.__all__]
    for toxic in toxics:
        if isinstance(toxic, type) and issubclass(toxic, Toxic):
            by_hand = {faults.Toxic, faults.Transform, faults.Freeze}  # with what, and till when?
            assert (f" {toxic.__name__}(" in first) is (toxic not in by_hand)


def test_the_order_is_the_users(upstream: str) -> None:
    options = ("--reset-after", "10B", "--blackhole", "9s", "--latency", "1ms")
    with Proxy(upstream, *options, backend="asyncio") as proxy:
        first = proxy.stop()[1].splitlines()[0]
    assert re.findall(r"(\w+)\(", first) == ["ResetPeer", "Blackhole", "Latency"]
    assert "ResetPeer(after=0.0, after_bytes=10) Blackhole(after=9.0)" in first


A_TIME = "expected a time with its unit (us, ms, s, m, h), such as 100ms or 2s, not "
A_SIZE = "expected a number of bytes or a size (B, kB, KB, MB, GB, KiB, MiB, GiB), such as "
AN_ADDRESS = "expected HOST:PORT, [IPV6]:PORT or the path of a unix socket with a slash in it, not "
A_SHARE = "expected a number from 0 to 1, such as 0.01, not "


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        *(
            (f"--latency {wrong}", f"{A_TIME}{wrong!r}")
            for wrong in ("1", "1S", "s", "1e3s", ".5s")
        ),
        *((f"--slice {wrong}", f"{A_SIZE}100 or 10KB, not {wrong!r}") for wrong in ("1K", "1.5")),
        ("--bandwidth 1KB/m", "expected bytes a second"),
        ("--bandwidth 0", "rate has to be 1 or more, not 0"),
        ("--slice 0", "average_size has to be 1 or more, not 0"),
        (
            "--reset-after 10",
            "expected a time or a size with its unit, such as 2s or 10KB, not '10'",
        ),
        *((f"--corrupt {wrong}", f"{A_SHARE}{wrong!r}") for wrong in ("1.1", "10%", "nan")),
        *(
            (f"--listen {wrong}", f"{AN_ADDRESS}{wrong!r}")
            for wrong in ("80", "host", "host:", ":80", "host:65536", "::1:80", "[::1]", "h:1:2")
        ),
        ("--upstream http://127.0.0.1:80", "without a scheme such as http://, not 'http://127."),
        ("--toxicity 0.5", "needs a toxic beside it"),
        ("--latency 1s --latency 2s", "given twice; each toxic can be there once"),
        ("--listen nobody.invalid:80", "'nobody.invalid': "),
        ("--upstream host:0", "nobody listens at port 0 (host:0)"),
        ("--jitter 1ms", "needs --latency beside it"),
        ("--slice-delay 1ms", "needs --slice beside it"),
        ("--direction up", "invalid choice: 'up'"),
        ("--backend twisted", "invalid choice: 'twisted'"),
    ],
)
def test_an_argument_that_is_wrong_is_named(
    arguments: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["proxy", "--upstream", "127.0.0.1:1", *arguments.split()])
    assert ending.value.code == 2
    told = capsys.readouterr().err.splitlines()[-1]
    option = arguments.split()[0]
    assert told.startswith(f"python -m harness proxy: error: argument {option}: ")
    assert error in told


@pytest.mark.parametrize("arguments", ["", "proxy", "prox", "proxy --upstream h:1 --lat 1s"])
def test_a_command_that_is_wrong(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "harness", *arguments.split()],
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "python -m harness" in done.stderr.splitlines()[-1]


def test_the_help_is_for_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["proxy", "--help"])
    assert not ending.value.code
    told = capsys.readouterr().out
    assert "--latency TIME" in told
    assert "The exit code is then 0" in told
