"""What every test gets: an environment without credentials, and a look at what it left behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports TensorFlow: its C++ side reads it once. 2: errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

_FOREIGN = (
    "ACKPT_STAGING_DIR",
    "AWS_PROFILE",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_CONNECTION_STRING",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "STORAGE_EMULATOR_HOST",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
)
_LEAVE_SECS = 5.0


@pytest.fixture(autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's credentials and proxies, ask no metadata server, and stage in a folder apart."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(home / "gcloud"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(autouse=True)
def _no_thread_left_behind() -> Iterator[None]:
    """Make sure that the test ended every thread of ours: one that stays is a checkpointer not closed."""
    before = set(threading.enumerate())
    yield
    ours = [each for each in set(threading.enumerate()) - before if each.name.startswith("ackpt ")]
    for thread in ours:
        thread.join(_LEAVE_SECS)
    assert not [each.name for each in ours if each.is_alive()]


@pytest.fixture
def root() -> Path:
    """Return the project's root folder."""
    return Path(__file__).parent.parent
