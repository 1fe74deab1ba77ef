"""AnyIO's memory object streams that nobody closes."""

from __future__ import annotations

import anyio
import pytest
from leak_driver import leaks_of, line_of

from harness.leaks import LeakCheck


def test_a_stream_that_is_not_closed(backend):
    kept = []

    async def leak():
        send, receive = anyio.create_memory_object_stream(1)
        send.close()
        kept.append(receive.clone())  # made here
        receive.close()

    (found,) = leaks_of(backend, leak)
    assert (found.kind, found.what) == ("memory stream", "MemoryObjectReceiveStream, not closed")
    assert line_of(leak, "# made here") in found.where
    kept[0].close()


def test_streams_that_are_dropped(backend):
    async def leak():
        anyio.create_memory_object_stream(1)  # made here

    found = leaks_of(backend, leak)
    assert sorted(leak.what for leak in found) == [
        "MemoryObjectReceiveStream, dropped without close()",
        "MemoryObjectSendStream, dropped without close()",
    ]
    assert all(line_of(leak, "# made here") in each.where for each in found)


def test_streams_that_are_closed(backend):
    async def twin():
        send, receive = anyio.create_memory_object_stream(1)
        with send, receive, send.clone() as clone:
            clone.send_nowait(1)
            assert await receive.receive() == 1

    assert leaks_of(backend, twin) == []


def test_a_test_that_waits_for_anyios_warning(backend):
    async def twin():
        with pytest.warns(ResourceWarning, match="Unclosed"):
            anyio.create_memory_object_stream(1)

    assert leaks_of(backend, twin) == []


def test_a_stream_that_the_traceback_of_a_failed_test_keeps(backend):
    kept = []

    async def body():
        kept.extend(anyio.create_memory_object_stream(1))

    assert leaks_of(backend, body, failed=True) == []
    for stream in kept:
        stream.close()


def test_after_the_check_anyio_warns_again(backend):
    async def body():
        pass

    leaks_of(backend, body, check=LeakCheck(kinds=["memory stream"]))
    with pytest.warns(ResourceWarning, match="Unclosed"):
        anyio.create_memory_object_stream(1)
