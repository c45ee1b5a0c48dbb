"""Secrets to be planted in a run to `gs://`, and the search for them in all that it says and keeps."""

from __future__ import annotations

import base64
import json
import random
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

TOKEN = "ya29.MARKER-of-the-access-token"
PASSWORD = "MARKER-of-the-proxy"
FOREIGN_KEY = "MARKER-of-another-cloud"
_SEARCHED_BYTES = 1 << 20
"""More is only in the model's own data, which has a few bytes again and again."""

ENCRYPTION_KEY = random.Random(1).randbytes(32)


@cache
def private_key() -> str:
    """Make an RSA key, once."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def environment(folder: Path, token_url: str) -> dict[str, str]:
    """Return the variables of a process that has all secrets; the key file is made in `folder`."""
    path = folder / "key.json"
    fields = {
        "type": "service_account",
        "project_id": "project",
        "private_key_id": "1",
        "private_key": private_key(),
        "client_email": "saver@project.iam.gserviceaccount.com",
        "token_uri": token_url,
    }
    path.write_text(json.dumps(fields))
    return {
        "GOOGLE_APPLICATION_CREDENTIALS": str(path),
        "HTTPS_PROXY": f"http://user:{PASSWORD}@127.0.0.1:9",
        "AWS_SECRET_ACCESS_KEY": FOREIGN_KEY,
        "RUN_KEY": base64.b64encode(ENCRYPTION_KEY).decode(),
    }


def secrets(session_ids: Iterable[str] = ()) -> dict[str, list[bytes]]:
    """Return everything that must not show, in the forms in which it may, by what it is."""
    body = "".join(private_key().splitlines()[1:-1])
    found = {
        "the access token": [TOKEN],
        "the proxy's password": [PASSWORD],
        "another cloud's key": [FOREIGN_KEY],
        "the private key": [body[place : place + 40] for place in range(0, len(body) - 40, 40)],
    }
    forms = {name: [form for text in texts for form in _forms(text)] for name, texts in found.items()}
    forms["the encryption key"] = [
        ENCRYPTION_KEY,
        base64.b64encode(ENCRYPTION_KEY),
        base64.urlsafe_b64encode(ENCRYPTION_KEY),
        ENCRYPTION_KEY.hex().encode(),
        quote(base64.b64encode(ENCRYPTION_KEY).decode(), safe="").encode(),
        repr(ENCRYPTION_KEY).encode(),
    ]
    for each in session_ids:
        forms[f"the address of session {each}"] = _forms(each)
    return forms


def leaks(places: Iterable[tuple[str, bytes]], forbidden: dict[str, list[bytes]]) -> list[str]:
    """Return what shows where: of places, by name and content."""
    return [
        f"{what} is in {name}"
        for name, content in ((name, content[:_SEARCHED_BYTES]) for name, content in places)
        for what, forms in forbidden.items()
        if any(form in content for form in forms)
    ]


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Iterate over all files of a folder, hidden ones too: names, which count as content, and contents."""
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        yield str(path), str(path).encode() + content


@contextmanager
def token_server() -> Iterator[str]:
    """Answer every signed assertion with the token, as Google's token endpoint does; give its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer = {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, name="token-server", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _forms(text: str) -> list[bytes]:
    data = text.encode()
    return [data, quote(text, safe="").encode(), base64.b64encode(data).rstrip(b"="), data.hex().encode()]
