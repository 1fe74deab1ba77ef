"""Event loops that a test makes beside the one that it runs in."""

from __future__ import annotations

import asyncio
import sys
import threading

import anyio
import pytest
from leak_driver import leaks_of, line_of, the_one

from harness.leaks import event_loops


def test_a_loop_that_is_kept(backend):
    async def leak():
        kept.append(asyncio.new_event_loop())  # made here

    kept = []
    leaks = leaks_of(backend, leak)
    the_one(leaks, "event loop", "was not closed", line_of(leak, "# made here"))
    assert kept[0].is_closed()


def test_a_loop_of_uvloop(backend):
    uvloop = pytest.importorskip("uvloop")

    async def leak():
        kept.append(uvloop.new_event_loop())  # made here

    kept = []
    leaks = leaks_of(backend, leak)
    the_one(leaks, "event loop", "uvloop.Loop was not closed", line_of(leak, "# made here"))


def test_a_loop_of_uvloop_that_is_imported_in_a_fixture(monkeypatch):
    uvloop = pytest.importorskip("uvloop")
    monkeypatch.setattr(event_loops, "_of_uvloop", None)
    monkeypatch.delitem(sys.modules, "uvloop")

    async def fixture():
        sys.modules["uvloop"] = uvloop

    async def leak():
        kept.append(uvloop.new_event_loop())  # made here

    kept = []
    leaks = leaks_of("asyncio", leak, before=fixture)
    the_one(leaks, "event loop", "uvloop.Loop was not closed", line_of(leak, "# made here"))


def test_loops_that_are_closed(backend):
    async def twin():
        asyncio.new_event_loop().close()
        thread = threading.Thread(target=asyncio.run, args=(asyncio.sleep(0),))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)

    assert leaks_of(backend, twin) == []


def test_a_loop_of_a_wider_fixture(backend):
    async def fixture():
        kept.append(asyncio.new_event_loop())

    async def twin():
        await anyio.lowlevel.checkpoint()

    kept = []
    assert leaks_of(backend, twin, before=fixture) == []
    kept.pop().close()
