"""Who we are to Azure: signatures, and tokens of a login, renewed in the middle of an upload."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ackpt.backends.az.backend import CopyingAzBackend
from ackpt.errors import AuthenticationError, PermissionDeniedError, TransientError, explain
from ackpt.testing.law import settled
from tests.backends.az_support import body_of, open_az, read, send
from tests.servers.azure import AzureServer


class Identity:
    """Give out tokens as a machine's managed identity does.

    https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference
    """

    def __init__(self, server: AzureServer) -> None:
        self.asked = 0
        self.status = 200
        self.life = timedelta(hours=1)
        self._server = server

    def answer(self) -> tuple[int, dict[str, str]]:
        self.asked += 1
        if self.status != 200:
            return self.status, {"error": "unavailable"}
        token = self._server.new_token(f"token-{self.asked}")
        ends = str(int(time.time() + self.life.total_seconds()))
        return 200, {"access_token": token, "expires_on": ends, "resource": "https://storage.azure.com"}


@pytest.fixture
def identity(az_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Identity]:
    given = Identity(az_server)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, fields = given.answer()
            body = json.dumps(fields).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{server.server_port}/token")
    monkeypatch.setenv("IDENTITY_HEADER", "header")
    # The chain would ask every command line tool on this machine's path, too.
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    yield given
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_login_is_asked_for_one_token_whoever_needs_it(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        results = await settled(*(backend.put(f"object-{n}", body_of(b"bytes")) for n in range(8)))
        assert not [result for result in results if isinstance(result, Exception)]
    assert identity.asked == 1


async def test_a_token_that_the_store_refuses_is_replaced_in_the_middle_of_an_upload(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        upload = await backend.create_upload("object")
        receipts = await send(upload, [b"one"])
        az_server.app.credentials.tokens.clear()
        results = await settled(*(upload.put_part(number, body_of(b"next")) for number in (2, 3, 4)))
        assert not [result for result in results if isinstance(result, Exception)]
        await upload.complete([*receipts, *(await upload.parts())[1:]])
        assert await read(backend, "object") == b"onenextnextnext"


async def test_a_token_near_its_end_is_renewed_before_it_is_refused(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    identity.life = timedelta(seconds=200)
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("object", body_of(b"bytes"))
        await backend.put("object", body_of(b"bytes"))
    assert identity.asked > 1
    assert not [entry for entry in az_server.log() if entry.status == 401]


async def test_a_copy_lends_the_token_to_the_store(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        assert isinstance(backend, CopyingAzBackend)
        await backend.copy(await backend.put("object", body_of(b"bytes")), "copy")
        assert await read(backend, "copy") == b"bytes"


async def test_a_batch_carries_the_token_in_each_part_and_is_sent_again_with_a_new_one(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    keys = [f"object-{number}" for number in range(9)]
    async with open_az(az_server.url, az_container) as backend:
        for key in keys:
            await backend.put(key, body_of(b"bytes"))
        az_server.app.credentials.tokens.clear()
        assert await backend.delete_many(keys) == {}
    assert az_server.names(az_container) == []
    assert [entry.status for entry in az_server.log("BlobBatch")] == [401, 202, 202]
    assert identity.asked == 2


async def test_an_account_that_may_only_read_is_denied(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("object", body_of(b"bytes"))
        az_server.app.credentials.readers.add("token-1")
        with pytest.raises(PermissionDeniedError, match="Storage Blob Data Contributor") as caught:
            await backend.put("object", body_of(b"other"))
        assert "token-1" not in explain(caught.value)
        assert await read(backend, "object") == b"bytes"


async def test_nobody_logged_in_says_what_to_do(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    async with open_az(az_server.url, az_container) as backend:
        with pytest.raises(AuthenticationError, match=r"run: az login, or set AZURE_STORAGE_KEY") as caught:
            await backend.put("object", body_of(b"bytes"))
    assert str(caught.value).endswith("for a public container")


async def test_credentials_of_another_account_are_said_to_be_so(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=mine;AccountKey={az_server.key}")
    async with open_az(az_server.url, az_container, account="other") as backend:
        with pytest.raises(AuthenticationError, match="names the account 'mine', and the URL 'other'"):
            await backend.put("object", body_of(b"bytes"))


async def test_a_signature_copies_as_it_reads(
    az_server: AzureServer, az_container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_KEY")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", f"?{az_server.sas()}")
    async with open_az(az_server.url, az_container) as backend:
        assert isinstance(backend, CopyingAzBackend)
        await backend.copy(await backend.put("object", body_of(b"bytes")), "copy")
        assert await read(backend, "copy") == b"bytes"
    assert not [entry for entry in az_server.log() if "authorization" in entry.headers]


async def test_an_identity_that_gave_a_token_and_does_not_answer_now_is_waited_for(
    az_server: AzureServer, az_container: str, identity: Identity
) -> None:
    async with open_az(az_server.url, az_container) as backend:
        await backend.put("object", body_of(b"bytes"))
        az_server.app.credentials.tokens.clear()
        identity.status = 400
        with pytest.raises(TransientError, match="no token for az:// any more"):
            await backend.put("object", body_of(b"other"))
        identity.status = 200
        await backend.put("object", body_of(b"other"))
        assert await read(backend, "object") == b"other"
