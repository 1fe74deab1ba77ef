"""Replacing functions of others while somebody listens, or for a whole run."""

from __future__ import annotations

import pytest

from harness.hooks import Hook, Hooks, kept


class Other:
    """Somebody else's class."""

    def called(self, heard):
        heard.append("called")


def wrap(original, hook):
    def called(self, heard):
        heard += hook.listeners
        return original(self, heard)

    return called


@pytest.fixture
def hook(nothing_kept):
    original = vars(Other)["called"]
    yield Hook(Other, "called", wrap)
    Other.called = original


def heard(other=None):
    found = []
    (other or Other()).called(found)
    return found


def test_it_is_replaced_while_somebody_listens(hook):
    original = Other.called
    hook.listen("first")
    hook.listen("second")
    hook.listen("first")
    assert heard() == ["first", "second", "called"]
    hook.leave("first")
    assert heard() == ["second", "called"]
    hook.leave("second")
    hook.leave("second")
    assert Other.called is original


def test_it_stays_replaced_where_it_is_kept(hook):
    original = Other.called
    with kept():
        with kept():
            hook.listen("first")
            replacement = Other.called
            hook.leave("first")
        assert heard() == ["called"]
        hook.listen("second")
        assert Other.called is replacement
        assert heard() == ["second", "called"]
        hook.leave("second")
        assert Other.called is replacement
    assert Other.called is original


def test_who_listens_longer_than_it_is_kept(hook):
    original = Other.called
    with kept():
        hook.listen("first")
    assert heard() == ["first", "called"]
    hook.leave("first")
    assert Other.called is original


def test_two_hooks_of_which_one_is_left(hook):
    original = Other.called
    second = Hook(Other, "called", wrap)
    with kept():
        hook.listen("first")
        second.listen("second")
        hook.leave("first")
        assert heard() == ["second", "called"]
    assert heard() == ["second", "called"]
    second.leave("second")
    assert Other.called is original


def test_somebody_else_replaces_it_meanwhile(hook):
    with kept():
        hook.listen("first")
        hook.leave("first")
        Other.called = lambda self, heard: heard.append("another's")
        hook.listen("second")
        assert heard() == ["second", "another's"]
        hook.leave("second")
    assert heard() == ["another's"]


def test_an_object_is_not_kept(nothing_kept):
    other = Other()
    hook = Hook(other, "called", lambda original, hook: lambda heard: heard.append("replaced"))
    with kept():
        hook.listen("first")
        assert heard(other) == ["replaced"]
        hook.leave("first")
        assert vars(other) == {}


class Another:
    """A second class of somebody else's."""

    def called(self, heard):
        heard.append("called")


@pytest.fixture
def hooks(nothing_kept):
    originals = vars(Other)["called"], vars(Another)["called"]
    yield Hooks(Hook(Other, "called", wrap), Hook(Another, "called", wrap))
    Other.called, Another.called = originals


def test_several_have_the_same_listeners(hooks):
    originals = Other.called, Another.called
    hooks.listen("first")
    hooks.listen("second")
    hooks.listen("first")
    assert hooks.listeners == ("first", "second")
    for each in Other(), Another():
        assert heard(each) == ["first", "second", "called"]
    hooks.leave("first")
    for each in Other(), Another():
        assert heard(each) == ["second", "called"]
    hooks.leave("second")
    hooks.leave("second")
    assert (Other.called, Another.called) == originals


def test_one_of_several_is_replaced_meanwhile(hooks):
    with kept():
        hooks.listen("first")
        hooks.leave("first")
        kept_one = Other.called
        Another.called = lambda self, heard: heard.append("another's")
        hooks.listen("second")
        assert Other.called is kept_one
        assert heard(Other()) == ["second", "called"]
        assert heard(Another()) == ["second", "another's"]
        hooks.leave("second")
    assert heard(Other()) == ["called"]
    assert heard(Another()) == ["another's"]
