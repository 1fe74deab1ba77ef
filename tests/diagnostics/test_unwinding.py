"""What was lost when something else was raised, and what had been caught before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from harness.diagnostics import was_on_its_way_out


class Stop(BaseException):
    """In the place of a cancellation."""


class Stopping:
    def __enter__(self) -> None: ...

    def __exit__(self, *exc_info: object) -> None:
        raise Stop


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    try:
        yield
    finally:
        raise Stop


@contextlib.contextmanager
def forgiving() -> Iterator[None]:
    try:
        yield
    except KeyError:
        raise Stop  # noqa: B904 (with the context that it has then)


def fail() -> None:
    raise KeyError("first")


def left_by_exit() -> None:
    with Stopping():
        fail()


def left_by_exit_in_one_line() -> None:
    with Stopping(): fail()  # fmt: skip  # noqa: E701


def left_by_second_exit() -> None:
    with contextlib.nullcontext(), Stopping(), contextlib.nullcontext():
        fail()


def left_by_two_exits() -> None:
    with Stopping(), Stopping():
        fail()


def left_by_exit_of_generator() -> None:
    with stopping():
        fail()


def left_by_stack() -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(Stopping())
        fail()


def left_by_finally() -> None:
    try:
        fail()
    finally:
        raise Stop


def left_by_finally_after_handlers() -> None:
    try:
        fail()
    except ValueError:
        pass
    finally:
        raise Stop


def left_by_finally_from_a_handler() -> None:
    try:
        raise ValueError
    except ValueError:
        fail()
    finally:
        raise Stop


def left_by_else() -> None:
    try:
        pass
    except KeyError:
        pass
    else:
        with Stopping():
            fail()


def left_by_handler_that_raises_again() -> None:
    try:
        fail()
    except BaseException:
        if stopping:
            raise Stop  # noqa: B904
        raise


def left_by_handler_that_raises_it_by_name() -> None:
    try:
        fail()
    except KeyError as exc:
        if stopping:
            raise Stop  # noqa: B904
        raise exc


def left_by_outer_function() -> None:
    try:
        left_by_exit()
    except ValueError:
        return


def left_after_something_handled_on_the_way() -> None:
    with Stopping2():
        fail()


class Stopping2(Stopping):
    def __exit__(self, *exc_info: object) -> None:
        try:
            raise BlockingIOError
        except BlockingIOError:
            raise Stop  # noqa: B904


def caught() -> None:
    try:
        fail()
    except KeyError:
        raise Stop  # noqa: B904


def caught_by_anything() -> None:
    try:
        fail()
    except:  # noqa: E722
        raise Stop  # noqa: B904


def caught_and_in_finally() -> None:
    try:
        fail()
    except KeyError:
        try:
            pass
        finally:
            raise Stop


def caught_and_left_by_exit() -> None:
    try:
        fail()
    except KeyError:
        with Stopping():
            pass


def caught_by_generator() -> None:
    with forgiving():
        fail()


def to_be_caught_further_out() -> None:
    try:
        with Stopping():
            fail()
    except (ValueError, LookupError):
        pass


def to_be_caught_by_caller() -> None:
    try:
        left_by_exit()
    except LookupError:
        return


def to_be_swallowed() -> None:
    with contextlib.suppress(ValueError, LookupError), contextlib.nullcontext(), Stopping():
        fail()


def to_be_required() -> None:
    with pytest.raises(KeyError), Stopping():
        fail()


def unknown_source() -> None:
    exec("try:\n    fail()\nfinally:\n    raise Stop", globals())


LOST = [each for name, each in list(globals().items()) if name.startswith("left_")]
HANDLED = [
    each
    for name, each in list(globals().items())
    if name.startswith(("caught", "to_be", "unknown"))
]


@pytest.mark.parametrize("function", LOST, ids=lambda function: function.__name__)
def test_lost(function: Callable[[], None]) -> None:
    with pytest.raises(Stop) as caught_stop:
        function()
    assert [type(each) for each in _lost(caught_stop.value)] == [KeyError]


@pytest.mark.parametrize("function", HANDLED, ids=lambda function: function.__name__)
def test_handled(function: Callable[[], None]) -> None:
    with pytest.raises(Stop) as caught_stop:
        function()
    assert caught_stop.value.__context__ is not None
    assert _lost(caught_stop.value) == []


def _lost(error: BaseException) -> list[BaseException]:
    context = error.__context__
    while context is not None:
        if was_on_its_way_out(context, replaced_by=error):
            if not isinstance(context, Stop):
                return [context]
            error = context
        context = context.__context__
    return []
