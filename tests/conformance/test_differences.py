"""The registry of differences: what it may say, how a test is held to it, and the page."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from blackbox import RunPytest
from differences import BACKENDS, DIFFERENCES, DOCUMENT, KINDS, difference, document


def test_every_difference_is_of_something_that_there_is():
    for each in DIFFERENCES:
        kind = KINDS[each.kind]
        assert each.check in {check.name for check in kind.checks}
        cells = [f"{backend}/{subject}" for backend in BACKENDS for subject in kind.subjects]
        for pattern in each.where:
            assert fnmatch.filter(cells, pattern), f"{each.check}: nothing is {pattern}"


def test_nothing_stands_in_two_lines():
    for name, kind in KINDS.items():
        assert len({check.name for check in kind.checks}) == len(kind.checks)
        for check in kind.checks:
            for backend in BACKENDS:
                for subject in kind.subjects:
                    difference(name, check.name, backend, subject)


def test_the_document_says_what_the_checks_find():
    assert DOCUMENT.read_text() == document(), "nox -s differences writes it anew"


EXAMPLE = """
import sys

import anyio
import pytest

sys.path.insert(0, {room!r})
from differences import Difference
from known import held_to

from harness.conformance import PromiseBroken

KNOWN = Difference("streams", "ping_pong", ("*",), "it returned b'*'", "so it is")


@pytest.mark.harness(transports=["memory"])
async def test_it(harness, request):
    async def check():
        {body}

    await held_to(request, KNOWN, check)
"""


@pytest.mark.parametrize(
    ("body", "outcome", "told"),
    [
        ("raise PromiseBroken('x', \"it returned b'y'\")", "xfailed", "so it is"),
        ("raise PromiseBroken('x', 'it hangs')", "failed", "another difference than is known"),
        ("raise OSError('of another kind')", "failed", "of another kind"),
        ("pass", "failed", "ping_pong is kept now: its lines in * are no longer needed"),
    ],
)
def test_a_test_is_held_to_what_is_known(
    body: str, outcome: str, told: str, pytester: pytest.Pytester, run_pytest: RunPytest
) -> None:
    room = str(Path(__file__).parent)
    pytester.makepyfile(EXAMPLE.format(room=room, body=body))
    result = run_pytest("-rx", "--harness-backends=asyncio")
    result.assert_outcomes(**{outcome: 1})
    result.stdout.fnmatch_lines([f"*{told}*"])
