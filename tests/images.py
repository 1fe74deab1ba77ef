"""Draws the pictures of the documentation from what pytest prints: `python tests/images.py`.

Run it after a change of the matrix or of the report of a test that hangs; `test_docs.py` notices.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from html import escape, unescape
from pathlib import Path

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"

ECHO = """
async def echo(stream):
    async for chunk in stream:
        await stream.send(chunk)


async def test_echo(harness):
    server = await harness.serve(echo)
    client = await server.connect()
    await client.send(b"hello")
    assert await client.receive() == b"hello"
"""

HANG = """
from functools import partial

import anyio
import pytest


async def chat(stream, lock):
    async for message in stream:
        async with lock:
            await stream.send(message)


@pytest.mark.harness(timeout=1)
async def test_chat(harness):
    lock = anyio.Lock()
    server = await harness.serve(partial(chat, lock=lock))
    client = await server.connect()
    async with lock:
        await client.send(b"hello")
        await client.receive()
"""

#: The name of each picture, its file and the arguments of pytest.
PICTURES = {
    "matrix": ("test_echo.py", ECHO, ()),
    "hang": ("test_chat.py", HANG, ("--harness-backends=trio", "--harness-transports=memory")),
}

#: Of a line of text, in pixels.
CHARACTER, HEIGHT, MARGIN = 8.43, 19, 16
COLOURS = [
    (r"^\$ ", "#e6e6e6"),
    (r"\bfailed\b|^FAILED|did not end within", "#ff7b72"),
    (r"^(asyncio|uvloop|trio) .*passed|^\d+ passed|^\.+ ", "#7ee787"),
    (r"^ +waits |^ +is running", "#e3b341"),
    (r"^=+ |^_+ ", "#8b949e"),
]


def printed(name: str) -> list[str]:
    """The lines that pytest prints for a picture, without those that differ from run to run."""
    file, text, arguments = PICTURES[name]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "80"}
    for variable in ("CI", "BUILD_NUMBER"):
        environment.pop(variable, None)  # pytest writes longer summaries under them
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, file).write_text(text.lstrip())
        Path(folder, "tox.ini").write_text("[pytest]\n")
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-p", "anyio", "-p"),
                *("harness.pytest_plugin", "-p", "no:cacheprovider", *arguments),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    if ran.returncode not in (0, 1):  # no test has passed or failed
        raise RuntimeError(f"pytest did not run: {ran.stdout}{ran.stderr}")
    lines = [line.rstrip() for line in ran.stdout.splitlines()]
    lines = [re.sub(r" in \d+\.\d+s$", "", line) for line in lines]
    return [" ".join(["$ pytest", *arguments]), *lines]


def drawn(lines: list[str]) -> str:
    """An SVG of a terminal."""
    width = MARGIN * 2 + CHARACTER * max(map(len, lines))
    height = MARGIN * 2 + HEIGHT * len(lines)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'width="{width:.0f}" height="{height}">',
        '<rect width="100%" height="100%" rx="6" fill="#161b22"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="14">',
    ]
    for number, line in enumerate(lines):
        colour = next((each for how, each in COLOURS if re.search(how, line)), "#c9d1d9")
        length = f' textLength="{CHARACTER * len(line):.0f}"' if line else ""
        parts.append(
            f'<text x="{MARGIN}" y="{MARGIN + HEIGHT * number + 14}" fill="{colour}"{length} '
            f'xml:space="preserve">{escape(line)}</text>'
        )
    return "\n".join([*parts, "</g>", "</svg>", ""])


def text_of(name: str) -> list[str]:
    """The lines that are in a picture."""
    picture = (IMAGES / f"{name}.svg").read_text()
    return [unescape(line) for line in re.findall(r"<text [^>]*>(.*)</text>", picture)]


if __name__ == "__main__":
    for name in PICTURES:
        (IMAGES / f"{name}.svg").write_text(drawn(printed(name)))
