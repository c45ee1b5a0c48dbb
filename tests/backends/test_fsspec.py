"""Filesystems of fsspec: what their URLs say, what goes wrong with them, and what a cancellation leaves."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import time
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from fsspec import register_implementation
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from paramiko.ssh_exception import AuthenticationException, NoValidConnectionsError

import ackpt
from ackpt import errors
from ackpt.backends import open_backend
from ackpt.backends.base import SingleWriter
from ackpt.backends.fsspec.backend import FsspecBackend
from ackpt.backends.fsspec.errors import translate
from ackpt.options import MiB
from ackpt.transfer.body import BytesBody


def test_it_is_for_one_writer() -> None:
    assert isinstance(open_backend("fsspec+memory:///x"), SingleWriter)


@pytest.mark.parametrize(
    ("url", "kind", "says"),
    [
        ("fsspec+nowhere://x/y", errors.UnknownSchemeError, "fsspec has no filesystem for 'nowhere'"),
        ("fsspec+://x/y", errors.InvalidURLError, r"no protocol .* expected fsspec\+<protocol>://"),
        ("fsspec+smb://x/y", errors.MissingDependencyError, "fsspec's filesystem for 'smb'"),
        ("fsspec+memory:///x?tier=1", errors.InvalidOptionError, "unknown option 'tier'"),
        ("fsspec+memory:///x?verify=maybe", errors.InvalidOptionError, "true or false"),
        (
            "fsspec+memory:///x?fs.secret=MARKER",
            errors.InvalidOptionError,
            "credentials do not belong in a URL",
        ),
    ],
)
def test_a_url_of_no_use_is_told_at_once(url: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says) as caught:
        open_backend(url)
    assert "MARKER" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["password", "passwd", "pkey", "api_key", "aws_secret_access_key", "session_token", "Credential", "auth"],
)
def test_an_argument_that_holds_a_credential_is_refused_without_telling_it(name: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match="credentials do not belong in a URL") as caught:
        open_backend(f"fsspec+memory:///x?fs.{name}=MARKER")
    assert "MARKER" not in str(caught.value)


@pytest.mark.parametrize("name", ["key_filename", "look_for_keys", "gss_auth_host", "keyspace"])
def test_an_argument_that_sounds_like_a_credential_is_taken(name: str) -> None:
    open_backend(f"fsspec+memory:///x?fs.{name}=x")


class Picky(MemoryFileSystem):
    """Take one argument, and no other."""

    protocol = "picky"

    def __init__(self, *, level: int = 1, use_listings_cache: bool = True) -> None:
        super().__init__()


async def test_an_argument_that_the_filesystem_refuses_is_told_at_the_first_request() -> None:
    register_implementation("picky", Picky, clobber=True)
    backend = open_backend("fsspec+picky:///x?fs.height=3")
    with pytest.raises(errors.InvalidOptionError, match="refuses the options"):
        await backend.head("x")


async def test_arguments_go_to_the_filesystem(tmp_path: Path) -> None:
    backend = open_backend(f"fsspec+file://{tmp_path}/run?fs.auto_mkdir=true")
    assert isinstance(backend, FsspecBackend)
    place = await backend._ready()
    assert isinstance(place._filesystem, LocalFileSystem)
    assert place._filesystem.auto_mkdir is True


class HTTPError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class AnswerError(Exception):
    """Be as botocore's ClientError is."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.response = {"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), errors.NotFoundError),
        (PermissionError("x"), errors.PermissionDeniedError),
        (OSError(errno.ENOSPC, "full"), errors.StorageFullError),
        (ConnectionResetError("x"), errors.TransientError),
        (TimeoutError("x"), errors.TransientError),
        (NotImplementedError(), errors.UnsupportedError),
        (HTTPError(404), errors.NotFoundError),
        (HTTPError(401), errors.AuthenticationError),
        (HTTPError(403), errors.PermissionDeniedError),
        (HTTPError(429), errors.ThrottledError),
        (HTTPError(503), errors.ThrottledError),
        (HTTPError(400), errors.StorageError),
        (caused(OSError(errno.EREMOTEIO, "x"), AnswerError(500)), errors.TransientError),
        (caused(OSError(errno.EBUSY, "x"), AnswerError(503)), errors.ThrottledError),
        (caused(PermissionError("x"), AnswerError(400)), errors.PermissionDeniedError),
        (caused(OSError(errno.EINVAL, "x"), AnswerError(400)), errors.StorageError),
        (NoCredentialsError(), errors.AuthenticationError),
        (EndpointConnectionError(endpoint_url="http://x"), errors.TransientError),
        (AuthenticationException("x"), errors.AuthenticationError),
        (NoValidConnectionsError({("127.0.0.1", 22): OSError("x")}), errors.TransientError),
        (socket.gaierror(socket.EAI_AGAIN, "x"), errors.TransientError),
        (ValueError("x"), errors.StorageError),
    ],
)
def test_what_a_filesystem_raises_is_typed_and_names_the_key(
    error: Exception, kind: type[errors.StorageError]
) -> None:
    made = translate(error, "model.index")
    assert type(made) is kind
    assert made.key == "model.index"
    assert "model.index" in str(made)


async def test_a_filesystem_that_only_reads_says_so() -> None:
    backend = open_backend("fsspec+http://127.0.0.1:1/run")
    with pytest.raises(errors.UnsupportedError, match="this filesystem cannot do that"):
        await backend.put("model.index", BytesBody(b"bytes"))
    await backend.aclose()


@pytest.mark.parametrize("key", ["a/../b", "/a", "a//b", "./a", ".ackpt-tmp/a", ""])
async def test_a_name_that_leads_elsewhere_is_refused(key: str, tmp_path: Path) -> None:
    backend = open_backend(f"fsspec+file://{tmp_path}/run")
    with pytest.raises(errors.UnsupportedError):
        await backend.put(key, BytesBody(b"x"))
    assert not list(tmp_path.rglob("*x*"))


async def test_names_with_patterns_in_them_are_names(tmp_path: Path) -> None:
    for url in (f"fsspec+file://{tmp_path}/run", "fsspec+memory:///patterns"):
        backend = open_backend(url)
        for key in ("a[1]*", "a1b", "a?"):
            await backend.put(key, BytesBody(key.encode()))
        await backend.delete("a?")
        assert sorted([info.key async for info in backend.list()]) == ["a1b", "a[1]*"]


class Lying(LocalFileSystem):
    """Write other bytes than were given."""

    protocol = "file"

    def open(self, path: str, mode: str = "rb", **options: object) -> object:  # type: ignore[override]
        file = super().open(path, mode, **options)
        if "w" in mode:
            write = file.write
            file.write = lambda data: write(b"?" * len(data))
        return file


async def test_bytes_that_are_read_back_damaged_are_never_seen(tmp_path: Path) -> None:
    backend = FsspecBackend(lambda: (Lying(), str(tmp_path)), verify=True, name="x")
    with pytest.raises(errors.ChecksumMismatchError, match="read back"):
        await backend.put("a", BytesBody(b"12345678"))
    assert [info async for info in backend.list()] == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    careless = FsspecBackend(lambda: (Lying(), str(tmp_path)), verify=False, name="x")
    assert (await careless.put("a", BytesBody(b"12345678"))).size == 8


async def test_what_a_dead_writer_left_is_swept_by_the_next(tmp_path: Path) -> None:
    aside = tmp_path / "run" / ".ackpt-tmp"
    aside.mkdir(parents=True)
    for name, days in (("dead", 2.0), ("alive", 0.5)):
        (aside / name).write_bytes(b"part of an object")
        moment = time.time() - days * 86400
        os.utime(aside / name, (moment, moment))
    backend = open_backend(f"fsspec+file://{tmp_path}/run")
    assert [info.key async for info in backend.list()] == []
    assert {each.name for each in aside.iterdir()} == {"dead", "alive"}, "a reader removes nothing"
    await backend.put("key", BytesBody(b"bytes"))
    assert [each.name for each in aside.iterdir()] == ["alive"]
    await backend.aclose()


async def test_a_cancelled_put_leaves_nothing(tmp_path: Path) -> None:
    backend = open_backend(f"fsspec+file://{tmp_path}/run")
    data = bytes(64 * MiB)
    for turns in (1, 5, 20, 60):
        putting = asyncio.create_task(backend.put("a", BytesBody(data)))
        for _ in range(turns):
            await asyncio.sleep(0)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


async def test_a_whole_run_lives_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "weights").write_bytes(bytes(3 * MiB))
    url = f"fsspec+file://{tmp_path}/run"
    for step in (1, 2):
        async with ackpt.Checkpointer(url, retention=ackpt.KeepLast(1)) as checkpointer:
            await checkpointer.save(tmp_path / "out", step=step)
            await checkpointer.wait()
    restored = await asyncio.to_thread(ackpt.restore, url, tmp_path / "restored")
    assert restored == str(tmp_path / "restored" / "ckpt-2")
    assert not (tmp_path / "run" / "ckpt-1.manifest.json").exists()
