"""Write the constraints files: every package of a working set-up, pinned to the release that was tried.

Run by `make lock`, then run the tests and commit. A release of a dependency changes nothing here
until somebody does so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

FOLDER = Path(__file__).parent
SETS = {
    "tensorflow-2.15.txt": ("tensorflow-cpu==2.15.1", ["tensorflow", "dev", "bench"]),
    "tensorflow-latest.txt": ("tensorflow-cpu", ["tensorflow", "test"]),
}
BUILD = ["hatchling", "editables"]


def main() -> None:
    """Resolve each set in a fresh virtual environment and write down what came out."""
    for name, (tensorflow, groups) in SETS.items():
        with tempfile.TemporaryDirectory(prefix="lock-") as folder:
            (FOLDER / name).write_text(resolve(Path(folder), tensorflow, groups))


def resolve(folder: Path, tensorflow: str, groups: list[str]) -> str:
    """Install the newest releases that go together, and return them as lines of a constraints file."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "--upgrade", "pip"], check=True)
    chosen = [f"--group={group}" for group in groups]
    subprocess.run(
        [*pip, "install", "--quiet", tensorflow, *chosen, *BUILD, f"{FOLDER.parent}[all,testing]"], check=True
    )
    frozen = subprocess.run(
        [*pip, "freeze", "--all", "--exclude", "ackpt"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    version = ".".join(map(str, sys.version_info[:2]))
    return f"# Python {version}, Linux on x86-64; written by `make lock`.\n{frozen}"


if __name__ == "__main__":
    main()
