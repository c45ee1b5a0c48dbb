"""The examples are installed as their authors would install them, and pass their own tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.documents import read_page

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "sqlite-store"
SAVE = """
import ackpt, pathlib
pathlib.Path("out").mkdir()
pathlib.Path("out/weights.bin").write_bytes(bytes(100_000))
with ackpt.BackgroundCheckpointer("sqlite://models/run-7?part_size=16KiB") as checkpointer:
    print(checkpointer.save("out", step=3).result(60))
prefix = ackpt.restore("sqlite://models/run-7", "restored")
assert pathlib.Path(prefix, "weights.bin").read_bytes() == bytes(100_000)
try:
    ackpt.open_backend("sqlite://models/run-7?foldr=/data")
except ackpt.AckptError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Install the example into a folder of its own; return the environment in which it is there."""
    folder = tmp_path_factory.mktemp("installed")
    run(
        *("pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"),
        *("--no-build-isolation", "--target", str(folder), str(EXAMPLE)),
        environment=os.environ,
    )
    return {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def run(*module: str, environment: Mapping[str, str], folder: Path = EXAMPLE) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *module],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_an_installed_example_passes_the_suites(installed: Mapping[str, str]) -> None:
    printed = run("pytest", "-q", "-p", "no:cacheprovider", environment=installed)
    assert " passed" in printed


def test_an_installed_example_is_found_by_its_entry_point(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "save.py").write_text(SAVE)
    printed = run("save", environment=installed, folder=tmp_path)
    assert "Committed(step=3, target='sqlite://models/run-7'" in printed
    assert "unknown option 'foldr'" in printed
    assert "did you mean 'folder'?" in printed
    listed = run("ackpt", "ls", f"sqlite://models/run-7?folder={tmp_path}", environment=installed)
    assert "ckpt-3" in listed


def test_the_backend_takes_less_than_60_lines() -> None:
    source = (EXAMPLE / "ackpt_sqlite.py").read_text()
    said = ast.get_docstring(ast.parse(source))
    assert said is not None
    assert len([line for line in code(source) if said not in line]) < 60


def test_the_tutorial_writes_the_example() -> None:
    blocks = read_page(ROOT / "docs" / "tutorial" / "write-a-backend.md").blocks
    written = "\n".join(block.code for block in blocks if block.file == "ackpt_sqlite.py")
    assert code(written) == code((EXAMPLE / "ackpt_sqlite.py").read_text())


def code(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]
