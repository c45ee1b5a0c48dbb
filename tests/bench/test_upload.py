"""The script of uploads runs, and its server leaves the clients whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.uploads import WAYS

ROOT = Path(__file__).resolve().parents[2]


def test_the_peers_that_are_installed_run() -> None:
    done = subprocess.run(
        [
            sys.executable,
            str(ROOT / "bench" / "upload.py"),
            "--smoke",
            "--loads",
            "small",
            "--links",
            "plain",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    measured = {name for ways in said["results"].values() for name in ways}
    assert measured | set(said["missing"]) == {name for ways in WAYS.values() for name in ways}


@pytest.mark.parametrize("link", ["plain", "tls"])
def test_what_an_upload_costs_is_told_for_every_load_and_protocol(link: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "upload.py"), "--smoke", "--links", link, "--only", "ackpt"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["results"]
    loads = ("big", "small", "checkpoint")
    assert set(found) == {f"{load}, {link}, {protocol}" for load in loads for protocol in ("gs", "s3")}
    for ways in found.values():
        ours = ways["ackpt"]
        assert ours["wall"] > 0
        assert ours["cpu"] > 0
        assert 0 <= ours["memory"] < 32
