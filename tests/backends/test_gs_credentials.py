"""Tokens for `gs://`: from where, when renewed, how often, and that nobody sees them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import google.auth.iam
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account

from ackpt.backends.gs.credentials import GoogleTokens, find_tokens
from ackpt.backends.gs.options import GSOptions
from ackpt.backends.http.authorization import Anonymous
from ackpt.backends.registry import open_backend
from ackpt.errors import AuthenticationError, MissingDependencyError, StorageError, TransientError
from tests.backends.gs_support import PART, body_of, data_of, keys, open_gs, read, until
from tests.servers.gcs import GCSServer


@dataclass(slots=True)
class TokenServer:
    """Give out `token-1`, `token-2`, … as Google's token endpoint does (RFC 7523)."""

    url: str = ""
    lifetime_secs: int = 3600
    given: int = 0
    asked: int = 0
    broken: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def token(self, request: web.Request) -> web.Response:
        """Answer a signed assertion with a token."""
        self.asked += 1
        form = await request.post()
        await self.gate.wait()
        if self.broken or not form.get("assertion"):
            return web.json_response(
                {"error": "invalid_grant", "error_description": "no such key"}, status=400
            )
        self.given += 1
        token = {
            "access_token": f"token-{self.given}",
            "expires_in": self.lifetime_secs,
            "token_type": "Bearer",
        }
        return web.json_response(token)

    async def impersonate(self, request: web.Request) -> web.Response:
        """Answer a request for another account's token."""
        assert request.headers["Authorization"] == "Bearer token-1"
        assert "devstorage.read_write" in await request.text()
        expires = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        return web.json_response(
            {"accessToken": f"token-of-{request.match_info['who']}", "expireTime": expires}
        )


@pytest.fixture
async def token_server() -> AsyncIterator[TokenServer]:
    server = TokenServer()
    server.gate.set()
    app = web.Application()
    app.router.add_post("/token", server.token)
    app.router.add_post("/impersonate/{who}", server.impersonate)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@cache
def private_key() -> str:
    """Make an RSA key, once."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def key_file(token_server: TokenServer, tmp_path: Path) -> str:
    """Write a service account's key file whose tokens come from the server here."""
    path = tmp_path / "key.json"
    fields = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": "saver@project.iam.gserviceaccount.com",
        "token_uri": f"{token_server.url}/token",
    }
    path.write_text(json.dumps(fields))
    return str(path)


async def test_a_key_file_gets_one_token_for_all_requests(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    gs_server.require("token-1")
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        await asyncio.gather(*(backend.put(f"key-{n}", body_of(b"bytes")) for n in range(20)))
        assert await read(backend, "key-7") == b"bytes"
    assert token_server.asked == 1


async def test_the_application_default_credentials_are_found(
    gs_server: GCSServer,
    gs_bucket: str,
    token_server: TokenServer,
    key_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", key_file)
    gs_server.require("token-1")
    async with open_gs(gs_server, gs_bucket, anonymous="false") as backend:
        await backend.put("key", body_of(b"bytes"))
    assert token_server.asked == 1


@pytest.mark.parametrize("upload", ["multipart", "resumable"])
async def test_a_token_that_expires_in_the_middle_of_an_upload_is_renewed(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str, upload: str
) -> None:
    pieces = [data_of(PART, seed) for seed in range(3)]
    gs_server.require("token-1")
    async with open_gs(gs_server, gs_bucket, credentials=key_file, upload=upload) as backend:
        begun = await backend.create_upload("large")
        receipts = [await begun.put_part(1, body_of(pieces[0]))]
        gs_server.require("token-2")
        receipts.append(await begun.put_part(2, body_of(pieces[1])))
        receipts.append(await begun.put_part(3, body_of(pieces[2])))
        gs_server.require("token-3")
        await begun.complete(receipts)
        assert await read(backend, "large") == b"".join(pieces)
    assert token_server.asked == 3


async def test_many_refused_at_one_time_renew_once(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    gs_server.require("token-1")
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        begun = await backend.create_upload("large")
        gs_server.require("token-2")
        await asyncio.gather(*(begun.put_part(number, body_of(data_of(PART))) for number in range(1, 7)))
        assert [part.number for part in await begun.parts()] == [1, 2, 3, 4, 5, 6]
    assert token_server.asked == 2


async def test_a_token_is_renewed_before_it_expires(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    """google-auth calls a token stale 3:45 minutes before its end."""
    token_server.lifetime_secs = 120
    gs_server.require("token-1", "token-2")
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        await backend.put("key", body_of(b"bytes"))
        gs_server.require("token-2")
        await backend.put("key", body_of(b"bytes"))
        assert {entry.status for entry in gs_server.log()} == {200}


async def test_a_stale_token_is_used_while_none_can_be_had(
    gs_server: GCSServer,
    gs_bucket: str,
    token_server: TokenServer,
    key_file: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token_server.lifetime_secs = 120
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        await backend.put("key", body_of(b"bytes"))
        tokens = backend._session._authorization
        assert isinstance(tokens, GoogleTokens)
        tokens._credentials._token_uri = "http://127.0.0.1:1/token"  # type: ignore[union-attr]
        await backend.put("key", body_of(b"bytes"))
    assert "could not be renewed yet" in caplog.text


async def test_a_token_refused_again_is_an_authentication_error(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    gs_server.require("another")
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        with pytest.raises(AuthenticationError, match=r"put key: HTTP 401.*gcloud auth application-default"):
            await backend.put("key", body_of(b"bytes"))
    assert len(gs_server.log("objects.insert")) == token_server.asked == 2


async def test_no_credentials_says_what_to_do(gs_server: GCSServer, gs_bucket: str) -> None:
    async with open_gs(gs_server, gs_bucket, anonymous="false") as backend:
        with pytest.raises(AuthenticationError) as caught:
            await backend.head("key")
        for words in ("gcloud auth application-default login", "GOOGLE_APPLICATION_CREDENTIALS", "anonymous"):
            assert words in str(caught.value)
    assert gs_server.log() == []


async def test_anonymous_where_that_is_not_allowed_is_an_authentication_error(
    gs_server: GCSServer, gs_bucket: str
) -> None:
    gs_server.require("token-1")
    async with open_gs(gs_server, gs_bucket) as backend:
        with pytest.raises(AuthenticationError, match="no credentials were sent") as caught:
            await backend.head("key")
        assert "log in again" not in str(caught.value)
        assert len(gs_server.log()) == 1


@pytest.mark.parametrize("content", ["", "{}", '{"type": "service_account"}', "no json"])
async def test_a_key_file_that_is_none_is_an_authentication_error(
    gs_server: GCSServer, gs_bucket: str, tmp_path: Path, content: str
) -> None:
    (tmp_path / "key.json").write_text(content)
    for name in ("key.json", "absent.json"):
        async with open_gs(gs_server, gs_bucket, credentials=str(tmp_path / name)) as backend:
            with pytest.raises(
                AuthenticationError, match=f"no token for gs://.*check the key file {tmp_path}/{name}"
            ):
                await backend.head("key")


async def test_a_refused_key_and_an_absent_token_server_are_told_apart(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    token_server.broken = True
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        with pytest.raises(AuthenticationError, match="invalid_grant"):
            await backend.head("key")
    text = Path(key_file).read_text().replace(token_server.url, "http://127.0.0.1:1")
    Path(key_file).write_text(text)
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        with pytest.raises(TransientError, match="no token for gs://"):
            await backend.head("key")


async def test_impersonation_sends_the_other_account_s_token(
    gs_server: GCSServer,
    gs_bucket: str,
    token_server: TokenServer,
    key_file: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(google.auth.iam, "_IAM_ENDPOINT", token_server.url + "/impersonate/{}")
    gs_server.require("token-of-other@project.example")
    given = {"credentials": key_file, "impersonate": "other@project.example"}
    async with open_gs(gs_server, gs_bucket, **given) as backend:
        await backend.put("key", body_of(b"bytes"))


async def test_credentials_of_another_universe_are_refused(
    gs_server: GCSServer, gs_bucket: str, key_file: str
) -> None:
    given = {"credentials": key_file, "universe_domain": "example.cloud"}
    async with open_gs(gs_server, gs_bucket, **given) as backend:
        with pytest.raises(AuthenticationError, match=r"'googleapis\.com'.*'example\.cloud'"):
            await backend.head("key")


async def test_a_cancelled_request_leaves_the_renewal_to_the_others(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    token_server.gate.clear()
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        tasks = [asyncio.create_task(backend.put(f"key-{n}", body_of(b"bytes"))) for n in range(3)]
        await until(lambda: token_server.asked == 1)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        token_server.gate.set()
        await asyncio.gather(*tasks[1:])
    assert token_server.asked == 1
    assert gs_server.names(gs_bucket) == ["run/key-1", "run/key-2"]


async def test_closing_gives_up_a_renewal(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    token_server.gate.clear()
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        task = asyncio.create_task(backend.head("key"))
        await until(lambda: token_server.asked == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    token_server.gate.set()
    assert [each.get_name() for each in asyncio.all_tasks() if each.get_name() == "gs-token"] == []


async def test_tokens_are_in_no_error_and_no_log(
    gs_server: GCSServer,
    gs_bucket: str,
    token_server: TokenServer,
    key_file: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "ackpt")
    gs_server.require("another")
    texts = []
    async with open_gs(gs_server, gs_bucket, credentials=key_file) as backend:
        for fault in (None, "reset_before", "refuse"):
            if fault is not None:
                gs_server.fault("*", fault)
            with pytest.raises(StorageError) as caught:
                await backend.put("key", body_of(b"bytes"))
            texts += [
                "".join(traceback.format_exception(caught.value)),
                repr(backend._session._authorization),
            ]
    for secret in ("token-1", "token-2", "PRIVATE KEY"):
        assert not [text for text in [*texts, caplog.text] if secret in text]


async def test_a_session_elsewhere_gets_no_token(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    """A session's URI that leads to another origin is used, but our token stays here."""
    async with open_gs(gs_server, gs_bucket, credentials=key_file, upload="resumable") as backend:
        upload = await backend.create_upload("large")
        assert upload.id.startswith(f"session:{gs_server.url}/")
        again = await backend.open_upload("large", upload.id.replace("127.0.0.1", "localhost"))
        await again.complete([await again.put_part(1, body_of(b"bytes"))])
        assert {entry.authorized for entry in gs_server.log("resumable.start")} == {True}
        assert {entry.authorized for entry in gs_server.log("resumable.put")} == {False}


def test_who_gets_credentials() -> None:
    assert isinstance(find_tokens(GSOptions(), emulated=False), GoogleTokens)
    assert isinstance(find_tokens(GSOptions(), emulated=True), Anonymous)
    assert isinstance(find_tokens(GSOptions(anonymous=True), emulated=False), Anonymous)
    assert isinstance(find_tokens(GSOptions(anonymous=False), emulated=True), GoogleTokens)
    assert isinstance(find_tokens(GSOptions(credentials="key.json"), emulated=True), GoogleTokens)
    assert isinstance(find_tokens(GSOptions(impersonate="a@b"), emulated=True), GoogleTokens)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in sys.modules if each.startswith("ackpt.backends.gs")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "google.auth", None)
    with pytest.raises(MissingDependencyError, match=r"'google.auth', which is not installed.*ackpt\[gs\]"):
        open_backend("gs://bucket/run")


@pytest.fixture
def no_look_up_of_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep google-auth from asking a host of Google's for the account's regions, in a thread of its own."""
    name = "_is_regional_access_boundary_lookup_required"
    monkeypatch.setattr(service_account.Credentials, name, lambda self: False)


@pytest.mark.usefixtures("no_look_up_of_regions")
@pytest.mark.parametrize("driver", ["gcsfs", "google-cloud-storage"])
async def test_a_driver_takes_the_key_file_too(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str, driver: str
) -> None:
    gs_server.require("token-1")
    backend = open_backend(
        f"gs://{gs_bucket}/run?endpoint={gs_server.url}&credentials={key_file}&driver={driver}"
    )
    await asyncio.gather(*(backend.put(f"object-{number}", body_of(b"bytes")) for number in range(4)))
    assert await keys(backend) == [f"object-{number}" for number in range(4)]
    assert token_server.asked == 1
    await backend.aclose()


@pytest.mark.usefixtures("no_look_up_of_regions")
async def test_gcsfs_renews_a_token_that_is_refused_for_the_next_attempt(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    gs_server.require("token-1")
    backend = open_backend(
        f"gs://{gs_bucket}/run?endpoint={gs_server.url}&credentials={key_file}&driver=gcsfs"
    )
    await backend.put("object", body_of(b"bytes"))
    for number in (2, 3):
        gs_server.require(f"token-{number}")
        refused = await asyncio.gather(*(backend.head("object") for _ in range(4)), return_exceptions=True)
        assert {type(error) for error in refused} == {TransientError}
        sizes = [info.size for info in await asyncio.gather(*(backend.head("object") for _ in range(4)))]
        assert (sizes, token_server.asked) == ([5] * 4, number)
    gs_server.require("no token of ours")
    with pytest.raises(TransientError, match="another token"):
        await backend.head("object")
    for _ in range(2):  # the other one is refused as well
        with pytest.raises(AuthenticationError, match="log in again"):
            await backend.head("object")
    await backend.aclose()


@pytest.mark.usefixtures("no_look_up_of_regions")
@pytest.mark.parametrize("driver", ["gcsfs", "google-cloud-storage"])
async def test_a_driver_that_gets_no_further_token_says_so(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str, driver: str
) -> None:
    token_server.lifetime_secs = 1
    backend = open_backend(
        f"gs://{gs_bucket}/run?endpoint={gs_server.url}&credentials={key_file}&driver={driver}"
    )
    await backend.put("object", body_of(b"bytes"))
    token_server.broken = True
    with pytest.raises(AuthenticationError, match=r"no token for gs:// .*check the key file") as caught:
        await backend.head("object")
    assert "token-1" not in "".join(traceback.format_exception(caught.value))
    await backend.aclose()


@pytest.mark.usefixtures("no_look_up_of_regions")
async def test_google_cloud_storage_renews_a_token_that_is_refused(
    gs_server: GCSServer, gs_bucket: str, token_server: TokenServer, key_file: str
) -> None:
    gs_server.require("token-1")
    backend = open_backend(
        f"gs://{gs_bucket}/run?endpoint={gs_server.url}&credentials={key_file}&driver=google-cloud-storage"
    )
    await backend.put("object", body_of(b"bytes"))
    gs_server.require("token-2", "token-3")  # a request for the library's tracing may ask for one, too
    assert (await backend.head("object")).size == 5
    assert token_server.asked in (2, 3)
    await backend.aclose()
