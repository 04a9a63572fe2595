"""Google's token endpoint for tests: real HTTP, real signed assertions, and a key file that points to it."""

import base64
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ACCOUNT = "fusewire@a-project.iam.gserviceaccount.com"


@dataclass
class TokenServer:
    """What it did. `script` holds (status, body) for the next requests; when it is empty, it gives a token."""

    port: int = 0
    lifetime: int = 3600
    given: list[str] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    script: deque[tuple[int, object]] = field(default_factory=deque)
    wait: Callable[[], object] = lambda: None
    """Called before each answer."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    tokens: TokenServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_POST(self) -> None:
        tokens = self.server.tokens
        form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
        tokens.wait()
        if tokens.script:
            status, body = tokens.script.popleft()
        else:
            tokens.claims.append(_verified(form["assertion"][0]))
            tokens.given.append(f"token-{len(tokens.given) + 1}")
            status, body = 200, {"access_token": tokens.given[-1], "expires_in": tokens.lifetime}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


def _verified(assertion: str) -> dict[str, Any]:
    """The claims of a JWT that bears the account's signature."""
    signed, _, signature = assertion.rpartition(".")
    _key().public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    claims: dict[str, Any] = json.loads(_decoded(signed.split(".")[1]))
    return claims


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def service_account_file(folder: Path, token_url: str) -> Path:
    """A service account's key file, as Google's console makes it."""
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    file = folder / "service-account.json"
    file.write_text(
        json.dumps(
            {
                "type": "service_account",
                "project_id": "a-project",
                "private_key_id": "key-1",
                "private_key": _key().private_bytes(serialization.Encoding.PEM, *plain).decode(),
                "client_email": ACCOUNT,
                "client_id": "1",
                "token_uri": token_url,
            }
        )
    )
    return file


@contextmanager
def running_token_server() -> Iterator[TokenServer]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), _Handler)
    tokens = server.tokens = TokenServer(port=server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
