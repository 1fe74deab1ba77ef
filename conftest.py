"""For pytest at the top of the repository: pytester, and a bound on what it starts."""

from __future__ import annotations

pytest_plugins = ["pytester"]
