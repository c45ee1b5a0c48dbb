"""The page of the package's public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.generate.markdown import NOTE, join, prose
from docs.generate.source import (
    Function,
    definition,
    docstring,
    fields,
    methods,
    public_names,
    signature,
)
from docs.generate.words import POLICIES

_AUTHORS = {
    "ackpt.backends": (
        "Body",
        "ObjectInfo",
        "IfAbsent",
        "IfVersion",
        "check_condition",
        "SingleWriter",
        "Upload",
        "SequentialUpload",
        "PartLimits",
        "PartReceipt",
        "UploadInfo",
    ),
    "ackpt.options": ("option", "read_options", "size", "duration", "count", "flag", "choice"),
    "ackpt.url": ("StorageURL",),
}
"""What a backend is written with, by the modules that authors import it from."""


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


def backends_page() -> str:
    """Describe what the author of a backend imports, and is not a name of the package itself."""
    parts = [
        "# What a backend is written with",
        NOTE,
        "For [the author of a backend](../tutorial/write-a-backend.md).\n"
        "`Backend`, `MultipartBackend`, `CopyingBackend`, `BulkDeletingBackend` and their methods are "
        "[on the page of the package](api.md), the errors [on theirs](errors.md); this is what goes "
        "with them.\n"
        "A `Condition` is an `IfAbsent` or an `IfVersion`.",
    ]
    for module, names in _AUTHORS.items():
        parts.append(f"From `{module}`:")
        for name in names:
            node = definition(name, module)
            assert node is not None, f"{module}.{name} is a module"
            parts += _class(node) if isinstance(node, ast.ClassDef) else _function(node)
    return join(parts)


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield f"## {node.name}"
    shown = [field for field in fields(node) if not field.startswith("_")]
    if shown:
        yield _code("\n".join(shown))
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
