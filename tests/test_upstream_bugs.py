"""The upstream bugs that the docs tell of are there: each reproducer prints what stands beside it.

When one of these tests fails, a library underneath has changed. If its bug is gone, the section in
``docs/upstream-bugs.md`` is no longer needed, nor is what works around it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "upstream-bugs.md"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Seconds, for what hangs.
BOUND = 60
#: What only `nox -s downstream` has all of.
DOWNSTREAM = [
    "anycorn",
    "coredis",
    "httpcore",
    "hypercorn",
    "mcp",
    "pycrdt.websocket",
    "trio_websocket",
    "uvicorn",
]


def runs() -> list[tuple[str, str, str, str]]:
    """Title, program, arguments and output of each command on the page."""
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, program = section.partition("\n")[0], ""
        for kind, text in BLOCK.findall(section):
            if kind == "python":
                program = text
                continue
            for command in text.split("$ python bug.py")[1:]:
                arguments, _, output = command.partition("\n")
                found.append((title, program, arguments.strip(), output))
    return found


def test_each_reproducer_is_run() -> None:
    kinds = [kind for kind, _ in BLOCK.findall(PAGE.read_text())]
    assert kinds == ["python", "console"] * (len(kinds) // 2)
    assert len(kinds) > 20


@pytest.mark.skipif(sys.platform != "linux", reason="the page says what happens on Linux")
@pytest.mark.parametrize(
    ("program", "arguments", "output"),
    [
        pytest.param(program, arguments, output, id=f"{title} {arguments}".strip())
        for title, program, arguments, output in runs()
    ],
)
def test_a_bug_is_still_there(program: str, arguments: str, output: str, tmp_path: Path) -> None:
    if "uvloop" in arguments:
        pytest.importorskip("uvloop")
    for name in DOWNSTREAM:
        if re.search(rf"^(import|from) .*\b{re.escape(name)}\b", program, re.MULTILINE):
            pytest.importorskip(name)
    since = re.match(r"# Python (\d+)\.(\d+) and later", program)
    if since and sys.version_info < tuple(map(int, since.groups())):
        pytest.skip(f"a bug of {since[0][2:]}")
    script = tmp_path / "bug.py"
    script.write_text(program)
    ran = subprocess.run(
        [sys.executable, str(script), *arguments.split()],
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == output, f"upstream has changed (see {PAGE.name})\n{ran.stderr}"
