"""`import ackpt` is cheap, and its names are what they say they are."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import ackpt

_MAX_IMPORT_SECS = 0.1
_MEASURE = "import time; start = time.perf_counter(); import ackpt; print(time.perf_counter() - start)"


def _run(code: str, root: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_import_is_quick(root: Path) -> None:
    # The best of a few: the law is about our code, not about what else the machine is doing.
    assert min(float(_run(_MEASURE, root)) for _ in range(5)) < _MAX_IMPORT_SECS


def test_import_brings_in_no_heavy_package(root: Path) -> None:
    loaded = set(_run("import ackpt, sys; print(*sys.modules)", root).split())
    assert "ackpt" in loaded
    assert not loaded & {"tensorflow", "numpy", "aiohttp", "asyncio", "google.auth", "tenacity", "crc32c"}


def test_import_brings_in_no_room(root: Path) -> None:
    loaded = _run("import ackpt, sys; print(*sys.modules)", root).split()
    assert [name for name in loaded if name.startswith("ackpt.")] == []


def test_storage_needs_neither_tensorflow_nor_a_cloud(root: Path) -> None:
    code = "import ackpt, sys; ackpt.open_backend('memory://b/run'), ackpt.Checkpointer; print(*sys.modules)"
    assert not set(_run(code, root).split()) & {"tensorflow", "aiohttp", "google.auth"}


@pytest.mark.parametrize("name", ackpt.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    assert getattr(ackpt, name).__doc__
    assert name in dir(ackpt)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'ackpt' has no attribute 'Checkpoint'"):
        ackpt.Checkpoint  # type: ignore[attr-defined]  # noqa: B018


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    tree = ast.parse(Path(ackpt.__file__).read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted(seen) == sorted(ackpt.__all__)
    for name, module in seen.items():
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(ackpt, name)
