"""The registry: which backend a URL opens, and what is said when there is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ackpt.backends import known_schemes, open_backend, open_target, register_backend, split_options
from ackpt.backends.base import Backend
from ackpt.backends.file import FileBackend
from ackpt.backends.memory import MemoryBackend
from ackpt.errors import (
    InvalidOptionError,
    InvalidURLError,
    MissingDependencyError,
    UnknownSchemeError,
)
from ackpt.options import MiB, TransferOptions
from ackpt.transfer.body import BytesBody
from ackpt.url import StorageURL


@pytest.fixture
def scheme() -> str:
    return f"shop{uuid4().hex}"


class Shop(MemoryBackend):
    url: StorageURL

    @classmethod
    def from_url(cls, url: StorageURL) -> Shop:
        shop = cls()
        shop.url = url
        return shop


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Lay out an installed distribution with entry points: the scheme of each begins with this."""
    name = f"plug{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "from ackpt.backends.memory import MemoryBackend\n"
        "class Store(MemoryBackend): pass\n"
        "def make(url): return Store()\n"
        "def wrong(url): return url\n"
        "nothing = None\n"
    )
    for distribution, extra in {name: "", f"{name}_rival": ""}.items():
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name}.twice = {name}:{'Store' if distribution == name else 'make'}{extra}"]
        if distribution == name:
            lines += [
                f"{name} = {name}:Store",
                f"{name}.make = {name}:make",
                f"{name}.wrong = {name}:wrong",
                f"{name}.nothing = {name}:nothing",
                f"{name}.broken = {name}_absent:Store",
                f"{name}.typo = {name}:Stroe",
                f"{name}+ = {name}:Store",
                f"memory = {name}:make",
            ]
        (folder / "entry_points.txt").write_text("[ackpt.backends]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


def test_known_schemes_open_their_backends(tmp_path: Path) -> None:
    assert isinstance(open_backend("memory://name/run"), MemoryBackend)
    assert isinstance(open_backend(f"file://{tmp_path}/run"), FileBackend)
    assert isinstance(open_backend(tmp_path / "run"), FileBackend)
    assert isinstance(open_backend(StorageURL.parse("memory://name")), MemoryBackend)
    assert not list(tmp_path.iterdir()), "opening a backend does no I/O"


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(UnknownSchemeError) as caught:
        open_backend("gcs://b/run?token=MARKER")
    known = ", ".join(known_schemes())
    assert str(caught.value) == (
        f"no backend for scheme 'gcs' in 'gcs://b/run'; known schemes: {known}; did you mean 'gs'?"
    )
    assert {"file", "gs", "memory"} <= set(known_schemes())
    with pytest.raises(UnknownSchemeError) as caught:
        open_backend("zzzzzz://b/run")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("url", ["memory://name/run", "/tmp/run", "file:///tmp/run"])
def test_an_unknown_option_lists_the_valid_ones(url: str) -> None:
    text = f"file://{url}" if url.startswith("/") else url
    with pytest.raises(InvalidOptionError) as caught:
        open_backend(f"{text}?partsize=1")
    assert "unknown option 'partsize'" in str(caught.value)
    assert "part_size" in str(caught.value)


def test_transfer_options_are_taken_out_of_the_url(scheme: str) -> None:
    register_backend(scheme, Shop)
    backend, options = open_target(f"{scheme}://b/run?part_size=8MiB&tier=cold&attempts=3")
    assert options == TransferOptions(part_bytes=8 * MiB, attempts=3)
    assert isinstance(backend, Shop)
    assert dict(backend.url.options) == {"tier": "cold"}
    place, options = split_options("memory://name")
    assert (dict(place.options), options) == ({}, TransferOptions())


def test_a_wrong_transfer_option_names_the_url() -> None:
    with pytest.raises(InvalidOptionError, match="option 'part_size' for memory://name: expected a size"):
        open_backend("memory://name?part_size=big")
    with pytest.raises(InvalidOptionError, match=r"expected at least 1, got 0 \(in memory://name\)"):
        open_backend("memory://name?part_size=0")


def test_a_malformed_url_is_refused_before_any_look_up() -> None:
    with pytest.raises(InvalidURLError, match="no bucket"):
        open_backend("gs://")


def test_a_registered_class_or_factory_is_used(scheme: str) -> None:
    register_backend(scheme, Shop)
    register_backend(f"{scheme}-made", lambda url: Shop.from_url(url))
    for name in (scheme, f"{scheme}-made"):
        backend = open_backend(f"{name}://b/run")
        assert isinstance(backend, Shop)
        assert str(backend.url) == f"{name}://b/run"
        assert name in known_schemes()


def test_a_family_of_schemes_is_found_by_its_prefix(scheme: str) -> None:
    register_backend(f"{scheme}+", Shop)
    backend = open_backend(f"{scheme}+sftp://host/run")
    assert isinstance(backend, Shop)
    assert backend.url.scheme == f"{scheme}+sftp"
    register_backend(f"{scheme}+exact", MemoryBackend)
    assert not isinstance(open_backend(f"{scheme}+exact://host/run"), Shop)
    with pytest.raises(UnknownSchemeError):
        open_backend(f"{scheme}://host/run")
    with pytest.raises(UnknownSchemeError):
        open_backend("memory+sftp://host/run")


def test_a_taken_scheme_is_not_taken_over(scheme: str) -> None:
    register_backend(scheme, Shop)
    register_backend(scheme, Shop)
    with pytest.raises(ValueError, match="taken already"):
        register_backend(scheme, MemoryBackend)
    with pytest.raises(ValueError, match="taken already"):
        register_backend("memory", Shop)


@pytest.mark.parametrize("wrong", ["", "Shop", "1shop", "sh op", "shop://", "+shop"])
def test_a_malformed_scheme_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected lower-case letters"):
        register_backend(wrong, Shop)


def test_what_makes_no_backend_is_refused(scheme: str) -> None:
    with pytest.raises(TypeError, match="expected a Backend class or a callable"):
        register_backend(scheme, "mystore:Shop")  # type: ignore[arg-type]
    register_backend(scheme, lambda url: url)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="made a StorageURL, not a Backend"):
        open_backend(f"{scheme}://b")


async def test_an_installed_plug_in_is_found(plug_in: str) -> None:
    assert plug_in in known_schemes()
    assert plug_in not in sys.modules, "listing schemes loads no plug-in"
    for scheme in (plug_in, f"{plug_in}.make", f"{plug_in}+any"):
        backend = open_backend(f"{scheme}://b/run")
        assert type(backend).__module__ == plug_in
        assert (await backend.put("object", BytesBody(b"bytes"))).size == 5


def test_a_plug_in_cannot_take_a_built_in_scheme(plug_in: str) -> None:
    assert type(open_backend("memory://name")) is MemoryBackend


def test_a_registered_backend_comes_before_a_plug_in(plug_in: str) -> None:
    register_backend(plug_in, Shop)
    assert isinstance(open_backend(f"{plug_in}://b"), Shop)


def test_a_broken_plug_in_is_named(plug_in: str) -> None:
    with pytest.raises(MissingDependencyError, match=rf"plug-in {plug_in}_absent:Store for scheme"):
        open_backend(f"{plug_in}.broken://b")
    with pytest.raises(MissingDependencyError, match=r":Stroe for scheme .* has no attribute 'Stroe'"):
        open_backend(f"{plug_in}.typo://b")
    with pytest.raises(TypeError, match="made a StorageURL, not a Backend"):
        open_backend(f"{plug_in}.wrong://b")
    with pytest.raises(TypeError, match="expected a Backend class"):
        open_backend(f"{plug_in}.nothing://b")


def test_two_plug_ins_for_one_scheme_are_refused(plug_in: str) -> None:
    with pytest.raises(UnknownSchemeError, match="more than one plug-in .* uninstall all but one"):
        open_backend(f"{plug_in}.twice://b")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    ours = ("ackpt.backends.gs", "ackpt.backends.http", "aiohttp.")
    for name in [name for name in sys.modules if name.startswith(ours)]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'ackpt\[gs\]'"):
        open_backend("gs://bucket/run")


def test_opening_a_local_backend_loads_no_cloud_and_no_framework() -> None:
    code = (
        "import sys, ackpt.backends as b; b.open_backend('memory://x'); b.open_backend('/tmp/x');"
        "print([m for m in ('aiohttp', 'botocore', 'tensorflow', 'numpy', 'pytest') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_memory_urls_with_one_name_share_a_store() -> None:
    name = uuid4().hex
    run, other = open_backend(f"memory://{name}/run"), open_backend(f"memory://{name}/run-2")
    top = open_backend(f"memory://{name}")
    await run.put("object", BytesBody(b"bytes"))

    async def keys(backend: Backend) -> list[str]:
        infos: AsyncGenerator[object, None] = backend.list()
        return [info.key async for info in infos]

    assert await keys(open_backend(f"memory://{name}/run")) == ["object"]
    assert await keys(other) == []
    assert await keys(top) == ["run/object"]
    assert await keys(open_backend(f"memory://{uuid4().hex}/run")) == []
