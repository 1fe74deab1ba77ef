"""Which of the peers are installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec

MODULES = {
    "pytest-asyncio": "pytest_asyncio",
    "pytest-trio": "pytest_trio",
    "aiomisc": "aiomisc_pytest",
    "looptime": "looptime",
    "async-solipsism": "async_solipsism",
    "aiotools": "aiotools",
}


def has(name: str) -> bool:
    """Whether the peer is installed; says so if it is not."""
    found = find_spec(MODULES[name]) is not None
    if not found:
        print(f"({name} is not installed)", file=sys.stderr)
    return found
