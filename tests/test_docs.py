"""The documentation is true: its code runs, its links lead somewhere, its tables are the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.documents import Page, read_page, run_page

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
RUNNABLE = [page for page in map(read_page, PAGES) if page.runs]

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_PAGE_SECS = 110.0


def _name(page: Page | Path) -> str:
    return str((page.path if isinstance(page, Page) else page).relative_to(ROOT))


@pytest.mark.parametrize("page", RUNNABLE, ids=_name)
def test_the_code_of_every_page_runs(page: Page, tmp_path: Path) -> None:
    for module in page.needs:
        if find_spec(module) is None:
            pytest.skip(f"{_name(page)} needs {module}, which this TensorFlow does not have")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.documents", str(page.path)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_PAGE_SECS,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_every_link_to_a_file_of_ours_leads_there(path: Path) -> None:
    for target in _LINK.findall(_FENCED.sub("", path.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in _anchors(linked), f"{target}: no such heading; there are {_anchors(linked)}"


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, made as GitHub and MkDocs make them."""
    headings = _HEADING.findall(_FENCED.sub("", path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_row_of_the_failures_names_a_test_that_is_there() -> None:
    page = (ROOT / "docs" / "explanation" / "failures.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| what ")]
    named = [re.findall(r"`(test_\w+)`", row.rpartition(" | ")[2]) for row in rows]
    assert rows
    assert all(named), "a row without a test"
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "ackpt" / "testing").glob("*.py")]
    defined = set(re.findall(r"def (test_\w+)", "\n".join(file.read_text() for file in files)))
    assert {name for names in named for name in names} - defined == set()


def test_the_generated_pages_are_those_of_the_code() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_blocks_share_a_namespace_and_what_they_print_is_compared(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n```\n\n```python\nprint(a)\n```\n\n<!-- output -->\n```text\n1\n```\n")
    run_page(read_page(page))
    page.write_text(page.read_text().replace("text\n1", "text\n2"))
    with pytest.raises(AssertionError, match=r"page\.md:11: expected\n2\n\nbut this was printed\n1"):
        run_page(read_page(page))


def test_a_set_up_runs_before_its_block_and_an_excused_block_does_not(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- set-up:\nvalue = 3\n-->\n```python\nassert value == 3\n```\n"
        "<!-- not run: it would take an hour -->\n```bash\nexit 1\n```\n"
    )
    run_page(read_page(page))
    assert read_page(page).blocks[1].not_run == "it would take an hour"


def test_blocks_make_up_a_file_that_later_blocks_can_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- file: made.py -->\n```python\na = 1\n```\nwords\n"
        "<!-- file: made.py -->\n```python\nb = 2\n```\n"
        "```bash\ncat made.py\n```\n<!-- output -->\n```text\na = 1\n\nb = 2\n\n```\n"
    )
    monkeypatch.chdir(tmp_path)
    run_page(read_page(page))


def test_an_error_shows_the_line_of_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("words\n\n```python\n\nraise RuntimeError\n```\n")
    with pytest.raises(RuntimeError) as caught:
        run_page(read_page(page))
    assert caught.traceback[-1].lineno + 1 == 5


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```bash\nfalse | true\n```\n")
    with pytest.raises(subprocess.CalledProcessError):
        run_page(read_page(page))
