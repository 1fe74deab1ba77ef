"""Every thread's stack in the user's code."""

from __future__ import annotations

import re
import threading

import pytest

from harness.diagnostics import format_threads


@pytest.fixture
def waiting_thread():
    entered, release = threading.Event(), threading.Event()

    def inner():
        entered.set()
        release.wait()

    def outer():
        inner()

    thread = threading.Thread(target=outer, name="a waiting thread", daemon=True)
    thread.start()
    entered.wait()
    yield thread
    release.set()
    thread.join()


def test_a_thread_has_its_name_and_its_users_frames(waiting_thread):
    report = format_threads()
    lines = report.partition("thread 'a waiting thread' (daemon)\n")[2].splitlines()
    assert re.search(
        r"tests/diagnostics/test_threads\.py:\d+ in (\S+\.)?outer: inner\(\)$", lines[0]
    )
    assert re.search(r"in (\S+\.)?inner: (release\.wait|entered\.set)\(\)$", lines[1])
    assert all(len(line) <= 100 for line in report.splitlines())


def test_a_thread_can_be_left_out(waiting_thread):
    assert "a waiting thread" not in format_threads(skip={waiting_thread.ident})


def test_the_loops_thread_comes_first_and_is_marked(waiting_thread):
    report = format_threads(mark_loop_thread=waiting_thread.ident)
    assert report.startswith("thread 'a waiting thread' (daemon, runs the event loop)\n")


def test_this_thread_ends_where_the_report_was_asked_for():
    report = format_threads(mark_loop_thread=threading.get_ident())
    lines = report.splitlines()
    assert lines[0].startswith("thread 'MainThread' (runs the event loop)")
    own = [line for line in lines if "test_this_thread_ends_where" in line]
    assert own == [lines[1]]
    assert not any("pytest" in line or "pluggy" in line for line in lines[1:2])


def test_threads_without_user_code_are_folded():
    # A Timer runs the standard library alone until it is due.
    timers = [threading.Timer(3600, print) for _ in range(6)]
    for timer in timers:
        timer.name = "idle"
        timer.daemon = True
        timer.start()
    try:
        report = format_threads()
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
    assert report.count("thread 'idle' (daemon): in threading.") >= 3
