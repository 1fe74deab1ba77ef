"""Proxies in virtual time, and outside of pytest."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import anyio
import pytest
from anyio import move_on_after
from echoing import echo
from plain import BOUND

from harness.faults import Latency, SlowAccept


@pytest.mark.harness(transports=["memory"], timeout=120)
async def test_ten_thousand_round_trips_take_no_time(harness, virtual_clock):
    """None of them is timed out, and the clock does not move: a relay is not waiting."""
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    begin = anyio.current_time()
    for number in range(10_000):
        message = b"%d" % number
        with move_on_after(1) as scope:
            await client.send(message)
            assert await client.receive() == message
        assert not scope.cancelled_caught
    assert anyio.current_time() == begin


@pytest.mark.parametrize("proxies", [1, 3])
async def test_round_trips_are_not_timed_out(harness, virtual_clock, proxies):
    """Nor over sockets, which the kernel is between."""
    target = await harness.serve(echo)
    for _ in range(proxies):
        target = await harness.proxy(target)
    begin = anyio.current_time()
    for number in range(100):
        with move_on_after(1) as scope:
            async with await target.connect() as client:
                await client.send(b"%d" % number)
                assert await client.receive() == b"%d" % number
        assert not scope.cancelled_caught
    assert anyio.current_time() == begin


async def test_delays_are_exact(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(echo))
    client = await proxy.connect()
    proxy.add(Latency(10))
    proxy.add(Latency(5), direction="upstream")
    begin = anyio.current_time()
    for number in range(1, 100):
        await client.send(b"x")
        assert await client.receive() == b"x"
        assert anyio.current_time() - begin == pytest.approx(15 * number)


async def test_a_connect_takes_its_time(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(echo), SlowAccept(100))
    begin = anyio.current_time()
    with move_on_after(99) as scope:
        await proxy.connect()
    assert scope.cancelled_caught
    assert anyio.current_time() - begin == pytest.approx(99)
    client = await proxy.connect()
    assert anyio.current_time() - begin == pytest.approx(199)
    await client.aclose()


async def test_ends_take_no_time(harness, virtual_clock):
    proxy = await harness.proxy(await harness.serve(echo, expect=anyio.BrokenResourceError))
    begin = anyio.current_time()
    for end in (proxy.disconnect_all, proxy.reset_all, proxy.disable, proxy.enable) * 5:
        if end != proxy.enable:
            await proxy.connect()
        await end()
    assert anyio.current_time() == begin


SCRIPT = """
    import sys
    import anyio
    from harness import open_harness
    from harness.backends import BUILT_IN
    from harness.faults import Latency, Refuse

    async def echo(stream):
        async for data in stream:
            await stream.send(data)

    async def main():
        for transport in ("tcp", "unix", "tls", "memory"):
            async with open_harness(transport=transport, seed=1) as harness:
                server = await harness.serve(echo)
                proxy = await harness.proxy(server, Latency(0.001, jitter=0.001))
                async with await proxy.connect() as client:
                    await client.send(b"hello")
                    assert await client.receive() == b"hello"
                with proxy.toxic(Refuse()):
                    try:
                        await proxy.connect()
                    except anyio.ConnectionFailed:
                        print(transport, "refused")
                await proxy.disable()
                await proxy.enable()
                await proxy.connect()
            # trio.testing, which settles tasks on trio, imports pytest itself.
            assert "pytest" not in sys.modules or sys.argv[1] == "trio"
        print("done")

    backend = BUILT_IN[sys.argv[1]]
    anyio.run(main, backend=backend.library, backend_options=dict(backend.options))
"""


def test_outside_of_pytest(backend, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    result = subprocess.run(
        [sys.executable, "-W", "error", str(script), backend],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.split("\n")[-2] == "done"
    assert result.stdout.count("refused") == 4
