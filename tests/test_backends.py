"""The backends by name: what they are made of, whether they are there, and which one runs."""

from __future__ import annotations

import asyncio
import dataclasses
import re
import subprocess
import sys
import threading

import anyio
import pytest

from harness.backends import (
    BUILT_IN,
    DEFAULT,
    UVLOOP,
    WrongBackend,
    check_running,
    current_library,
    custom_backend,
    describe_running,
    eager_loop,
    running_backend_name,
)

needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="no eager tasks before 3.12")
each_built_in = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[needs_eager] if name == "asyncio+eager" else [])
        for name in BUILT_IN
    ],
)


def run(backend, function):
    """Run ``function()`` in an event loop of ``backend``, as AnyIO's options make it."""

    async def main():
        return function()

    return anyio.run(main, backend=backend.library, backend_options=dict(backend.options))


# What there is


def test_the_backends_are_known_by_their_names():
    assert list(BUILT_IN) == ["asyncio", "uvloop", "trio", "asyncio+debug", "asyncio+eager"]
    for name, backend in BUILT_IN.items():
        assert backend.name == name
        assert backend.library in ("asyncio", "trio")


def test_by_default_tests_run_on_the_three_event_loops():
    assert DEFAULT == ("asyncio", "uvloop", "trio")


def test_a_backend_without_options_is_anyios_own_name_for_it():
    assert BUILT_IN["asyncio"].anyio_backend == "asyncio"
    assert BUILT_IN["trio"].anyio_backend == "trio"


def test_a_backend_with_options_is_a_name_and_its_options():
    assert BUILT_IN["uvloop"].anyio_backend == ("asyncio", {"use_uvloop": True})
    assert BUILT_IN["asyncio+debug"].anyio_backend == ("asyncio", {"debug": True})
    assert BUILT_IN["asyncio+eager"].anyio_backend == ("asyncio", {"loop_factory": eager_loop})


def test_the_options_are_handed_out_as_a_copy():
    backend = custom_backend("mine", "asyncio", {"debug": True})
    backend.anyio_backend[1].clear()
    assert backend.anyio_backend == ("asyncio", {"debug": True})


# What is missing


@each_built_in
def test_what_is_installed_is_not_missing(name):
    assert BUILT_IN[name].missing() is None


@pytest.mark.parametrize(("name", "module"), [("uvloop", UVLOOP), ("trio", "trio")])
def test_a_backend_says_which_module_is_missing_and_how_to_get_it(monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert BUILT_IN[name].missing() == (
        f"backend {name!r} needs {module!r}, which is not installed: pip install {module}"
    )


def test_a_module_that_was_never_imported_is_looked_for():
    backend = dataclasses.replace(BUILT_IN["trio"], needs=("no_such_module_as_this",))
    assert "pip install no_such_module_as_this" in backend.missing()
    backend = dataclasses.replace(BUILT_IN["trio"], needs=("this",))
    assert "this" not in sys.modules
    assert backend.missing() is None
    assert "this" not in sys.modules


def test_asyncio_needs_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, UVLOOP, None)
    monkeypatch.setitem(sys.modules, "trio", None)
    assert BUILT_IN["asyncio"].missing() is None


def test_a_backend_says_which_python_it_needs():
    have = ".".join(map(str, sys.version_info[:2]))
    backend = dataclasses.replace(BUILT_IN["asyncio"], name="later", python=(9, 1))
    assert backend.missing() == f"backend 'later' needs Python 9.1 or later, this is {have}"
    assert dataclasses.replace(backend, python=tuple(sys.version_info[:2])).missing() is None


def test_eager_tasks_need_python_3_12():
    assert (BUILT_IN["asyncio+eager"].missing() is None) is (sys.version_info >= (3, 12))


# Which one runs


@each_built_in
def test_a_backend_recognises_itself(name):
    run(BUILT_IN[name], lambda: check_running(BUILT_IN[name]))


@pytest.mark.parametrize(
    ("runs", "made_for", "described"),
    [
        ("trio", "asyncio", "trio"),
        ("trio", "uvloop", "trio"),
        ("asyncio", "trio", r"asyncio with asyncio\.[\w.]+EventLoop"),
        ("asyncio", "uvloop", r"asyncio with asyncio\.[\w.]+EventLoop"),
        ("asyncio", "asyncio+debug", r"asyncio with asyncio\.[\w.]+EventLoop"),
        ("asyncio", "asyncio+eager", r"asyncio with asyncio\.[\w.]+EventLoop"),
        ("uvloop", "asyncio", rf"asyncio with {UVLOOP}\.Loop"),
        ("uvloop", "trio", rf"asyncio with {UVLOOP}\.Loop"),
    ],
)
def test_a_wrong_backend_is_named_beside_the_right_one(runs, made_for, described):
    message = (
        rf"this test was made for the backend '{made_for.replace('+', '[+]')}' but runs on "
        rf"{described}\. A module-, class- or session-scoped async fixture holds an event loop"
    )
    with pytest.raises(WrongBackend, match=message):
        run(BUILT_IN[runs], lambda: check_running(BUILT_IN[made_for]))


def test_whoever_holds_the_wrong_backend_is_named():
    message = (
        "runs on trio. The fixture A and the fixture B hold an event loop of another backend; "
        "give that fixture the same backend (let it use `anyio_backend`), or a function scope"
    )
    with pytest.raises(WrongBackend, match=re.escape(message)):
        run(
            BUILT_IN["trio"],
            lambda: check_running(BUILT_IN["asyncio"], ["the fixture A", "the fixture B"]),
        )


@pytest.mark.harness
async def test_a_test_runs_on_the_backend_in_its_name(anyio_backend, request):
    name = request.node.callspec.id
    assert running_backend_name() == name
    assert current_library() == BUILT_IN[name].library
    check_running(BUILT_IN[name])


@pytest.mark.parametrize(
    ("name", "library", "described"),
    [
        ("asyncio", "asyncio", "asyncio with asyncio."),
        ("uvloop", "asyncio", f"asyncio with {UVLOOP}.Loop"),
        ("trio", "trio", "trio"),
    ],
)
def test_what_runs_is_told_by_name_by_library_and_in_words(name, library, described):
    assert run(BUILT_IN[name], running_backend_name) == name
    assert run(BUILT_IN[name], current_library) == library
    assert run(BUILT_IN[name], describe_running).startswith(described)


def test_without_an_event_loop_nothing_runs():
    with pytest.raises(RuntimeError, match="no event loop of asyncio or trio is running"):
        current_library()


def test_an_event_loop_of_another_thread_does_not_count():
    seen = []

    def look():
        try:
            current_library()
        except RuntimeError as exc:
            seen.append(str(exc))

    def run_thread():
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()

    run(BUILT_IN["asyncio"], run_thread)
    run(BUILT_IN["trio"], run_thread)
    assert seen == ["no event loop of asyncio or trio is running in this thread"] * 2


def test_asking_on_asyncio_does_not_import_trio():
    code = (
        "import sys, anyio, harness.backends as b\n"
        "async def main():\n"
        "    assert b.running_backend_name() == 'asyncio'\n"
        "    b.check_running(b.BUILT_IN['asyncio'])\n"
        "    assert b.BUILT_IN['trio'].missing() is None\n"
        "anyio.run(main)\n"
        "assert 'trio' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


# Debug and eager


def test_the_debug_backend_runs_in_asyncios_debug_mode():
    def debug():
        return asyncio.get_running_loop().get_debug()

    assert run(BUILT_IN["asyncio+debug"], debug) is True


@needs_eager
def test_the_eager_backend_starts_tasks_at_once():
    def start():
        ran = []

        async def child():
            ran.append("child")

        task = asyncio.get_running_loop().create_task(child())
        ran.append("parent")
        assert task.done()
        return ran

    assert run(BUILT_IN["asyncio+eager"], start) == ["child", "parent"]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="the factory can do it from 3.12 on")
def test_before_3_12_the_eager_loop_is_a_plain_one():
    loop = eager_loop()
    try:
        assert loop.get_task_factory() is None
    finally:
        loop.close()


# A backend of the user's own


@pytest.mark.parametrize("library", ["uvloop", "curio", "", "Trio"])
def test_an_anyio_backend_that_does_not_exist_is_refused(library):
    with pytest.raises(ValueError, match=f"backend 'mine': .* not {library!r}$"):
        custom_backend("mine", library, {})


def test_a_custom_backend_needs_its_library(monkeypatch):
    backend = custom_backend("mine", "trio", {"restrict_keyboard_interrupt_to_checkpoints": True})
    assert backend.missing() is None
    assert backend.anyio_backend == (
        "trio",
        {"restrict_keyboard_interrupt_to_checkpoints": True},
    )
    monkeypatch.setitem(sys.modules, "trio", None)
    assert "needs 'trio'" in backend.missing()


def test_a_custom_loop_is_told_from_others():
    class Loop(asyncio.SelectorEventLoop):
        pass

    backend = custom_backend("mine", "asyncio", {"loop_factory": Loop})
    assert backend.missing() is None
    run(backend, lambda: check_running(backend))
    with pytest.raises(WrongBackend, match="backend 'mine' but runs on asyncio with asyncio"):
        run(BUILT_IN["asyncio"], lambda: check_running(backend))


def test_a_custom_backend_keeps_its_other_options():
    backend = custom_backend("mine", "asyncio", {"loop_factory": eager_loop, "debug": True})
    assert backend.options["debug"] is True
    assert set(backend.options) == {"loop_factory", "debug"}
