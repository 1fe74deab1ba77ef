"""The docstrings' roles of Sphinx, as Markdown has them: for the reference pages only."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|exc|func|meth|mod|attr):`(~?)([\w.]+)`")
#: A paragraph that ends with "::", or is only that, before an indented block.
LITERAL = re.compile(r"^( *)(.*?)::$(?=\n\n *\S)", re.MULTILINE)
DOUBLE = re.compile(r"``([^`\n]+)``")


def as_markdown(text: str) -> str:
    """``text`` without what only Sphinx knows; names of this package become links."""
    text = ROLE.sub(_link, text)
    text = LITERAL.sub(lambda found: found[1] + (f"{found[2]}:" if found[2] else ""), text)
    return DOUBLE.sub(r"`\1`", text)


def _link(found: re.Match[str]) -> str:
    target = found[2]
    name = target.rpartition(".")[2] if found[1] else target
    if not target.startswith("harness."):
        return f"`{name}`"
    return f'<autoref identifier="{target}" optional><code>{name}</code></autoref>'


class Roles(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
