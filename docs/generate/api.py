"""The page of the package's public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.generate.markdown import NOTE, join, prose
from docs.generate.source import Function, definition, docstring, methods, public_names, signature
from docs.generate.words import POLICIES


def page() -> str:
    """Describe every public name of the package."""
    parts = [
        "# Python interface",
        NOTE,
        "The public names of `ackpt`, each loaded when it is first used.\n"
        "The [policies](policies.md), the [errors](errors.md) and the [events](events.md) have pages of "
        "their own.",
    ]
    elsewhere = {name for _, names, _ in POLICIES.values() for name in names}
    for name, module in sorted(public_names().items()):
        node = definition(name, module)
        if node is None or name in elsewhere:
            continue
        parts += _class(node) if isinstance(node, ast.ClassDef) else _function(node)
    return join(parts)


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"## {node.name}"
    made = next((each for each in methods(node) if each.name == "__init__"), None)
    if made is not None:
        yield _code(signature(made, name=node.name))
    yield prose(docstring(node))
    if made is not None and ast.get_docstring(made):
        yield prose(docstring(made))
    for method in methods(node):
        if not method.name.startswith("_"):
            yield f"### {node.name}.{method.name}"
            yield _code(signature(method))
            yield prose(docstring(method))


def _function(node: Function) -> Iterator[str]:
    yield f"## {node.name}"
    yield _code(signature(node))
    yield prose(docstring(node))


def _code(text: str) -> str:
    return f"```py\n{text}\n```"
