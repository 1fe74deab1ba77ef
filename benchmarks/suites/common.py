"""What the suites have in common."""

from __future__ import annotations

import os

#: How many tests a suite has beside the one that does nothing.
TESTS = int(os.environ.get("BENCH_TESTS", "0"))

#: The backend of a suite that runs on several.
BACKEND = os.environ.get("BENCH_BACKEND", "asyncio")

MESSAGE = b"a small message"
ROUND_TRIPS = 3
