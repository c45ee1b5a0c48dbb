"""Keys for `s3://`: from where, when renewed, how often, and what is said of bad ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.utils
import pytest
from aiohttp import web

from ackpt.errors import AuthenticationError, PermissionDeniedError, StorageError, TransientError
from tests.backends.s3_support import PART, body_of, data_of, open_s3, read, set_variables
from tests.servers.s3 import S3Server
from tests.servers.s3.records import Key

NONE: Mapping[str, str | None] = dict.fromkeys(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
)


class KeyServer:
    """Be what gives out keys: a container's endpoint, and a token service."""

    url: str

    def __init__(self, store: S3Server) -> None:
        self.store = store
        self.asked = 0
        self.lifetime_secs = 3600.0
        self.broken = False

    def new_key(self) -> tuple[Key, str]:
        """Make a key; return it, and when it ends."""
        self.asked += 1
        key = self.store.new_key(token=f"token-{self.asked}", secs=self.lifetime_secs)
        return key, (datetime.now(UTC) + timedelta(seconds=self.lifetime_secs)).strftime("%Y-%m-%dT%H:%M:%SZ")

    async def container(self, request: web.Request) -> web.Response:
        """https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html"""
        if self.broken:
            raise web.HTTPInternalServerError
        key, ends = self.new_key()
        return web.json_response(
            {
                "AccessKeyId": key.access_key,
                "SecretAccessKey": key.secret_key,
                "Token": key.token,
                "Expiration": ends,
            }
        )

    async def token_service(self, request: web.Request) -> web.Response:
        """https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html"""
        form = await request.post()
        if form["RoleArn"] != "arn:aws:iam::123456789012:role/saver":
            error = "<Error><Code>AccessDenied</Code><Message>not yours</Message></Error>"
            document = f"<ErrorResponse>{error}</ErrorResponse>"
            return web.Response(status=403, text=document, content_type="text/xml")
        key, ends = self.new_key()
        document = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{key.access_key}</AccessKeyId><SecretAccessKey>{key.secret_key}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{ends}</Expiration>"
            "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        )
        return web.Response(text=document, content_type="text/xml")


@pytest.fixture
async def key_server(s3_server: S3Server) -> AsyncIterator[KeyServer]:
    server = KeyServer(s3_server)
    app = web.Application()
    app.router.add_get("/container", server.container)
    app.router.add_post("/", server.token_service)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


@pytest.fixture
def container(key_server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> KeyServer:
    """Give out keys as to a container."""
    monkeypatch.setattr(botocore.utils.ContainerMetadataFetcher, "SLEEP_TIME", 0)
    set_variables(monkeypatch, {**NONE, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{key_server.url}/container"})
    return key_server


def write_profile(path: Path, key: Key, name: str = "default") -> None:
    """Write a credentials file."""
    token = "" if key.token is None else f"aws_session_token = {key.token}\n"
    path.write_text(
        f"[{name}]\naws_access_key_id = {key.access_key}\naws_secret_access_key = {key.secret_key}\n{token}"
    )


async def test_the_environment_s_keys_are_found(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
    assert s3_server.key.access_key in s3_server.log("PutObject")[0].headers["authorization"]


async def test_a_profile_is_found_by_its_name(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = s3_server.new_key()
    write_profile(tmp_path / "credentials", other, "other")
    set_variables(monkeypatch, {**NONE, "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")})
    async with open_s3(s3_server.url, s3_bucket, profile="other") as backend:
        await backend.put("key", body_of(b"bytes"))
    assert other.access_key in s3_server.log("PutObject")[0].headers["authorization"]


async def test_a_profile_that_is_not_there_is_named(s3_server: S3Server, s3_bucket: str) -> None:
    async with open_s3(s3_server.url, s3_bucket, profile="nobody", region="us-east-1") as backend:
        with pytest.raises(AuthenticationError, match="nobody"):
            await backend.head("key")


async def test_no_credentials_says_what_to_do(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_variables(monkeypatch, NONE)
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(AuthenticationError) as caught:
            await backend.head("key")
    for words in ("AWS_ACCESS_KEY_ID", "aws configure", "profile", "anonymous=true"):
        assert words in str(caught.value)
    assert s3_server.log() == []


async def test_an_sso_login_that_has_ended_says_to_log_in(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[default]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = saver\n"
        "[sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.example/start\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    set_variables(monkeypatch, {**NONE, "AWS_CONFIG_FILE": str(tmp_path / "config")})
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(AuthenticationError, match="aws sso login"):
            await backend.head("key")


async def test_keys_of_a_container_are_asked_for_once(
    s3_server: S3Server, s3_bucket: str, container: KeyServer
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await asyncio.gather(*(backend.put(f"key-{n}", body_of(b"bytes")) for n in range(20)))
        assert await read(backend, "key-7") == b"bytes"
    assert container.asked == 1
    assert {entry.headers["x-amz-security-token"] for entry in s3_server.log()} == {"token-1"}


async def test_keys_are_renewed_before_they_end(
    s3_server: S3Server, s3_bucket: str, container: KeyServer
) -> None:
    """botocore calls keys stale 15 minutes before their end, and asks anew at every use then."""
    container.lifetime_secs = 720.0
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
        container.lifetime_secs = 3600.0
        await backend.put("key", body_of(b"bytes"))
        await backend.put("key", body_of(b"bytes"))
    tokens = [entry.headers["x-amz-security-token"] for entry in s3_server.log("PutObject")]
    assert tokens[0] != tokens[1] == tokens[2]
    assert {entry.status for entry in s3_server.log()} == {200}


async def test_stale_keys_are_used_while_no_others_can_be_had(
    s3_server: S3Server, s3_bucket: str, container: KeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    container.lifetime_secs = 300.0
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
        container.broken = True
        await backend.put("key", body_of(b"bytes"))
    first, second = s3_server.log("PutObject")
    assert first.headers["x-amz-security-token"] == second.headers["x-amz-security-token"]
    assert "could not be renewed yet" in caplog.text


async def test_no_answer_of_who_gives_out_keys_is_transient(
    s3_server: S3Server, s3_bucket: str, container: KeyServer
) -> None:
    container.broken = True
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(StorageError, match="no credentials for s3://") as caught:
            await backend.head("key")
        assert isinstance(caught.value, TransientError)
        container.broken = False
        await backend.put("key", body_of(b"bytes"))


async def test_keys_that_end_in_the_middle_of_an_upload_are_looked_for_anew(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A credentials file that somebody else keeps fresh, as many clusters have it."""
    first, second = s3_server.new_key(token="one", secs=3600.0), s3_server.new_key(token="two", secs=3600.0)
    path = tmp_path / "credentials"
    write_profile(path, first)
    set_variables(monkeypatch, {**NONE, "AWS_SHARED_CREDENTIALS_FILE": str(path)})
    pieces = [data_of(PART, seed) for seed in range(3)]
    async with open_s3(s3_server.url, s3_bucket) as backend:
        upload = await backend.create_upload("large")
        receipts = [await upload.put_part(1, body_of(pieces[0]))]
        write_profile(path, second)
        s3_server.app.keys[first.access_key] = replace(first, ends=time.time() - 1)
        receipts += await asyncio.gather(
            *(upload.put_part(number, body_of(pieces[number - 1])) for number in (2, 3))
        )
        await upload.complete(receipts)
        assert await read(backend, "large") == b"".join(pieces)


@pytest.mark.parametrize("action", ["head", "get", "put"])
async def test_keys_that_ended_and_cannot_be_renewed_are_an_authentication_error(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    set_variables(monkeypatch, s3_server.new_key(token="one", secs=-1.0).environment())
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(AuthenticationError, match=r"ExpiredToken.*aws sso login"):
            if action == "head":
                await backend.head("key")
            elif action == "get":
                await read(backend, "key")
            else:
                await backend.put("key", body_of(b"bytes"))


async def test_a_head_whose_keys_have_ended_goes_on_with_new_ones(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A HEAD is refused without a word of why."""
    first = s3_server.new_key(token="one", secs=3600.0)
    path = tmp_path / "credentials"
    write_profile(path, first)
    set_variables(monkeypatch, {**NONE, "AWS_SHARED_CREDENTIALS_FILE": str(path)})
    async with open_s3(s3_server.url, s3_bucket) as backend:
        info = await backend.put("key", body_of(b"bytes"))
        write_profile(path, s3_server.new_key())
        s3_server.app.keys[first.access_key] = replace(first, ends=time.time() - 1)
        assert (await backend.head("key")).version == info.version


async def test_a_role_is_assumed(
    s3_server: S3Server,
    s3_bucket: str,
    key_server: KeyServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    write_profile(tmp_path / "credentials", s3_server.key, "base")
    profiles = [
        f"[profile {name}]\nrole_arn = arn:aws:iam::123456789012:role/{name}\n"
        "source_profile = base\nregion = us-east-1\n"
        for name in ("saver", "other")
    ]
    (tmp_path / "config").write_text("".join(profiles))
    set_variables(
        monkeypatch,
        {
            **NONE,
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
            "AWS_CONFIG_FILE": str(tmp_path / "config"),
            "AWS_ENDPOINT_URL_STS": key_server.url,
        },
    )
    async with open_s3(s3_server.url, s3_bucket, profile="saver") as backend:
        await backend.put("key", body_of(b"bytes"))
    assert s3_server.log("PutObject")[0].headers["x-amz-security-token"] == "token-1"
    async with open_s3(s3_server.url, s3_bucket, profile="other") as backend:
        with pytest.raises(AuthenticationError, match="not yours"):
            await backend.head("key")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "Invalid"),
    ],
)
async def test_wrong_keys_are_an_authentication_error(
    s3_server: S3Server,
    s3_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
    code: str,
) -> None:
    set_variables(monkeypatch, change)
    async with open_s3(s3_server.url, s3_bucket) as backend:
        for request in (backend.put("key", body_of(b"bytes")), backend.head("key"), backend.delete("key")):
            with pytest.raises(AuthenticationError, match=code):
                await request


async def test_a_wrong_clock_is_told(s3_server: S3Server, s3_bucket: str) -> None:
    s3_server.app.clock_ahead_secs = 3600.0
    async with open_s3(s3_server.url, s3_bucket) as backend:
        with pytest.raises(AuthenticationError, match=r"this machine's clock is wrong: it says 2.*NTP"):
            await backend.put("key", body_of(b"bytes"))


async def test_a_key_that_may_only_read(
    s3_server: S3Server, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_s3(s3_server.url, s3_bucket) as backend:
        await backend.put("key", body_of(b"bytes"))
    set_variables(monkeypatch, s3_server.new_key(read_only=True).environment())
    async with open_s3(s3_server.url, s3_bucket) as backend:
        assert await read(backend, "key") == b"bytes"
        for request in (
            backend.put("key", body_of(b"other")),
            backend.create_upload("key"),
            backend.delete("key"),
        ):
            with pytest.raises(PermissionDeniedError, match="s3:PutObject") as caught:
                await request
            assert not isinstance(caught.value, AuthenticationError)
        assert await read(backend, "key") == b"bytes"


async def test_nobody_reads_what_is_public(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    public, private = s3_server.create_bucket("public", public=True), s3_server.create_bucket("private")
    async with open_s3(s3_server.url, public) as backend:
        await backend.put("key", body_of(b"bytes"))
    set_variables(monkeypatch, NONE)
    async with open_s3(s3_server.url, public, anonymous="true") as backend:
        assert await read(backend, "key") == b"bytes"
        assert (await backend.head("key")).size == 5
        with pytest.raises(PermissionDeniedError):
            await backend.put("key", body_of(b"bytes"))
    async with open_s3(s3_server.url, private, anonymous="true") as backend:
        with pytest.raises(PermissionDeniedError, match=r"s3:ListBucket.*no credentials were sent"):
            await backend.head("key")
