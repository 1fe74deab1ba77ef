"""Where the choices of random operations come from: the seed alone.

Hypothesis would sometimes choose a number that stands in a module of the user's project, and which
of them are imported depends on the other tests that run
(hypothesis/internal/conjecture/providers.py, ``HypothesisProvider._maybe_draw_constant``).
"""

from __future__ import annotations

from typing import Any

from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider

#: What Hypothesis's settings call it.
NAME = "anyio-harness"


class SeedAlone(HypothesisProvider):
    def _maybe_draw_constant(self, *args: Any, **options: Any) -> None:
        return None


AVAILABLE_PROVIDERS.setdefault(NAME, f"{__name__}.{SeedAlone.__name__}")
