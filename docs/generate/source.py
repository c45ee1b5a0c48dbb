"""What the reference takes from sources: definitions, docstrings, fields; read, not imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

Function = ast.FunctionDef | ast.AsyncFunctionDef

_LINE = 100


def classes(path: str) -> dict[str, ast.ClassDef]:
    """Return the classes that the file at `path` (from the root) defines, by name."""
    tree = ast.parse((ROOT / path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def bases(node: ast.ClassDef) -> list[str]:
    """Return the bases of a class, as they are written."""
    return [ast.unparse(base) for base in node.bases]


def fields(node: ast.ClassDef) -> list[str]:
    """Return the fields of a class, with their types and defaults, as they are written."""
    return [ast.unparse(item) for item in node.body if isinstance(item, ast.AnnAssign)]


def methods(node: ast.ClassDef) -> Iterator[Function]:
    """Iterate over the methods that a class defines itself; a property's docstring tells of its setter."""
    return (item for item in node.body if isinstance(item, Function) and not _is_setter(item))


def _is_setter(node: Function) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "setter" for each in node.decorator_list)


def docstring(node: ast.ClassDef | Function) -> str:
    """Return the docstring.

    Raises:
        LookupError: there is none.
    """
    said = ast.get_docstring(node)
    if said is None:
        raise LookupError(f"{node.name} has no docstring")
    return said


def public_names() -> Mapping[str, str]:
    """Return the public names of the package, with the modules that they come from."""
    tree = ast.parse((ROOT / "ackpt" / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.name: node.module or ""
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def definition(name: str, module: str) -> ast.ClassDef | Function | None:
    """Find where a name is defined, through the modules that pass it on; None for a module.

    Raises:
        LookupError: it is not defined there.
    """
    path = ROOT.joinpath(*module.split("."))
    if (path / f"{name}.py").exists():
        return None
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | Function) and node.name == name:
            return node
        if isinstance(node, ast.ImportFrom) and name in [alias.name for alias in node.names]:
            return definition(name, node.module or "")
    raise LookupError(f"{module} does not define {name}")


def signature(node: Function, *, name: str | None = None) -> str:
    """Write a signature, one parameter a line where it is long; as a call of `name`, if given."""
    marks = [ast.unparse(each) for each in node.decorator_list]
    head = "".join(f"@{mark}\n" for mark in marks if mark in ("property", "classmethod", "abstractmethod"))
    if name is None:
        head += "async def " if isinstance(node, ast.AsyncFunctionDef) else "def "
    returns = f" -> {ast.unparse(node.returns)}" if node.returns is not None and name is None else ""
    arguments = re.sub(r"^(self|cls)(, )?", "", ast.unparse(node.args))
    line = f"{head}{name or node.name}({arguments}){returns}"
    if len(line.rpartition("\n")[2]) <= _LINE:
        return line
    broken = "".join(f"    {each},\n" for each in _split(arguments))
    return f"{head}{name or node.name}(\n{broken}){returns}"


def _split(arguments: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(arguments):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(arguments[start:position].strip())
            start = position + 1
    return [*parts, arguments[start:].strip()]
