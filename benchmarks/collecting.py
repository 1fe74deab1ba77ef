"""Collection of many cells: backends and transports, beside the same parameters by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from .comparing import Comparison, Goal, Plan, in_turns
from .whole_process import seconds

BACKENDS = ("asyncio", "uvloop", "trio")
TRANSPORTS = ("tcp", "unix", "tls", "memory")

WITH_HARNESS = """
import pytest

@pytest.mark.parametrize("number", range({number}))
async def test_it(harness, number):
    pass
"""

#: The scope is that of AnyIO's own fixture, and the harness's: with it, a module's fixtures may be
#: async, and pytest puts the tests of one backend together, which takes its time.
BY_HAND = """
import pytest

@pytest.fixture(scope="module", params={backends!r})
def anyio_backend(request):
    return request.param

@pytest.fixture(params={transports!r})
def transport(request):
    return request.param

@pytest.fixture
def server(anyio_backend, transport):
    pass

@pytest.mark.anyio
@pytest.mark.parametrize("number", range({number}))
async def test_it(server, number):
    pass
"""


def run(plan: Plan) -> Iterator[Comparison]:
    cells = len(BACKENDS) * len(TRANSPORTS)
    with tempfile.TemporaryDirectory() as folder:

        def collection(name: str, text: str, plugins: list[str], count: int) -> float:
            file = Path(folder, f"test_{name}_{count}.py")
            file.write_text(
                text.format(number=count // cells, backends=BACKENDS, transports=TRANSPORTS)
            )
            taken = seconds(file, "--collect-only", "-qq", plugins=plugins, passed=0)
            empty = seconds("empty.py", "--collect-only", "-qq", plugins=plugins, passed=0)
            return (taken - empty) / count * 1e6

        def ours(count: int) -> float:
            plugins = ["anyio", "harness.pytest_plugin"]
            return collection("harness", WITH_HARNESS, plugins, count)

        many, few = plan.some(20_004, 120), plan.some(2_004, 24)
        yield Comparison(
            f"collection of {many} cells",
            "us a cell",
            in_turns(
                {
                    "harness": lambda: ours(many),
                    "by hand": lambda: collection("by_hand", BY_HAND, ["anyio"], many),
                },
                plan.rounds(5),
            ),
            goals=[Goal("by hand", most=1.15)],
        )
        yield Comparison(
            f"collection of {many} cells or {few}",
            "us a cell",
            in_turns({f"{many}": lambda: ours(many), f"{few}": lambda: ours(few)}, plan.rounds(5)),
            ours=f"{many}",
            goals=[Goal(f"{few}", most=1.15)],
        )
