"""The token servers of AWS, Google and Entra for tests: real HTTP over real TLS at their own names, behind a proxy.

Nothing in the code under test knows of it: the environment names a proxy and a certificate, as in many a company. Each
server checks what the real one would: signatures with botocore's own signer and with RSA keys, times, audiences.
"""

import base64
import json
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.certificates import Certificate, self_signed

REGION = "eu-central-1"
KEY_ID, SECRET, SESSION = "AKIDEXAMPLE", "sentinel-secret-5a0c", "sentinel-session-77d1"
ROLE = "arn:aws:iam::123456789012:role/fusewire-prod-CompleteFunctionRole"
ISSUER = "https://7a1f.tokens.sts.global.api.aws"
TENANT, CLIENT = "11111111-2222-3333-4444-555555555555", "66666666-7777-8888-9999-000000000000"
POOL = "projects/123456/locations/global/workloadIdentityPools/fusewire/providers/aws-lambda"
ACCOUNT = "fusewire@a-project.iam.gserviceaccount.com"
CONTAINER_AUTHORIZATION = "sentinel-container-3c1a"

GOOGLE, IMPERSONATION = "sts.googleapis.com", "iamcredentials.googleapis.com"
AWS, ENTRA = f"sts.{REGION}.amazonaws.com", "login.microsoftonline.com"
HOSTS = (GOOGLE, IMPERSONATION, AWS, ENTRA)


class Refused(Exception):
    """Why the real server would have said no: a status, and what the body says."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@dataclass
class Clouds:
    """What they did. `script` holds (status, body) for a host's next requests; else they answer as they do."""

    port: int = 0
    lifetime: int = 3600
    region: str = REGION
    federation_enabled: bool = True
    calls: list[str] = field(default_factory=list)
    """The hosts that were asked, in order; `container` is the server of container credentials."""
    given: list[str] = field(default_factory=list)
    script: dict[str, deque[tuple[int, object]]] = field(default_factory=lambda: defaultdict(deque))
    subjects: set[str] = field(default_factory=lambda: {ROLE})
    """Whom Entra's federated credentials trust."""

    def secrets(self) -> list[str]:
        """What nobody may log."""
        return [SECRET, SESSION, CONTAINER_AUTHORIZATION, *self.given]

    def token(self, kind: str) -> str:
        self.given.append(f"sentinel-{kind}-{len(self.given) + 1}")
        return self.given[-1]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    clouds: Clouds
    certificate: Certificate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    host = "container"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_CONNECT(self) -> None:
        """Be the proxy, and then the server behind it."""
        self.host = self.path.rpartition(":")[0]
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.certificate.context().wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        self.connection.close()  # the socket server closes the plain one, and this is what TLS made of it

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["content-length"])))

    def _answer(self, body: bytes) -> None:
        clouds = self.server.clouds
        clouds.calls.append(self.host)
        if clouds.script[self.host]:
            status, answer = clouds.script[self.host].popleft()
        else:
            try:
                status, answer = 200, _ANSWERS[self.host](clouds, self.path, dict(self.headers.items()), body)
            except Refused as refused:
                status, answer = refused.status, _error(self.host, str(refused))
        raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "text/xml" if raw.startswith(b"<") else "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)


# --- AWS ---------------------------------------------------------------------------------------------------------


def _container(clouds: Clouds, path: str, headers: Mapping[str, str], body: bytes) -> object:
    if headers.get("Authorization") != CONTAINER_AUTHORIZATION:
        raise Refused(401, "Unauthorized")
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": SESSION, "Expiration": until}


def check_signature(method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> None:
    """Take a request that bears the role's Signature Version 4, made now.

    :raises Refused: as AWS does
    """
    given = {name.lower(): value for name, value in headers.items()}
    authorization = given.get("authorization", "")
    parts = dict(
        part.strip().partition("=")[::2] for part in authorization.removeprefix("AWS4-HMAC-SHA256 ").split(",")
    )
    key_id, date, region, service, _ = parts.get("Credential", "////").split("/")
    signed = {name: given[name] for name in parts.get("SignedHeaders", "").split(";") if name in given}
    at = datetime.strptime(given["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs((datetime.now(UTC) - at).total_seconds()) > 900:
        raise Refused(403, "SignatureDoesNotMatch")
    if key_id != KEY_ID or signed.get("x-amz-security-token") != SESSION:
        raise Refused(403, "InvalidClientTokenId")
    request = AWSRequest(method, url, data=body, headers=signed)
    request.context["timestamp"] = given["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY_ID, SECRET), service, region)
    wanted = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    if parts.get("Signature") != wanted or not given["x-amz-date"].startswith(date):
        raise Refused(403, "SignatureDoesNotMatch")


def _aws(clouds: Clouds, path: str, headers: Mapping[str, str], body: bytes) -> object:
    check_signature("POST", f"https://{AWS}{path}", headers, body)
    form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    assert form["Action"] == "GetWebIdentityToken", form["Action"]
    if not clouds.federation_enabled:
        raise Refused(403, "OutboundWebIdentityFederationDisabledException")
    assert form["SigningAlgorithm"] == "RS256"
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": ROLE, "aud": form["Audience.member.1"], "iat": now}
    token = signed_jwt({**claims, "exp": now + int(form["DurationSeconds"])})
    clouds.given.append(token)
    return (
        '<GetWebIdentityTokenResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetWebIdentityTokenResult>'
        f"<WebIdentityToken>{token}</WebIdentityToken><Expiration>2030-01-01T00:00:00Z</Expiration>"
        "</GetWebIdentityTokenResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>"
        "</GetWebIdentityTokenResponse>"
    ).encode()


def signed_jwt(claims: Mapping[str, Any]) -> str:
    """As AWS's issuer signs it."""
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
    return f"{signed}.{_encoded(_key().sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


# --- Google ------------------------------------------------------------------------------------------------------


def _google(clouds: Clouds, path: str, headers: Mapping[str, str], body: bytes) -> object:
    form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    assert path == "/v1/token"
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert form["scope"] in {f"https://www.googleapis.com/auth/{name}" for name in ("cloud-platform", "iam")}
    asked = json.loads(unquote(form["subject_token"]))
    headers = {each["key"]: each["value"] for each in asked["headers"]}
    check_signature(asked["method"], asked["url"], headers)
    url = urlsplit(asked["url"])
    if url.hostname != AWS or parse_qs(url.query)["Action"] != ["GetCallerIdentity"]:
        raise Refused(400, "invalid_request")
    if (
        form["audience"] != f"//iam.googleapis.com/{POOL}"
        or headers["x-goog-cloud-target-resource"] != form["audience"]
    ):
        raise Refused(400, "invalid_grant")
    return {"access_token": clouds.token("federated"), "token_type": "Bearer", "expires_in": clouds.lifetime}


def _impersonation(clouds: Clouds, path: str, headers: Mapping[str, str], body: bytes) -> object:
    if headers.get("authorization", headers.get("Authorization", "")).removeprefix("Bearer ") not in clouds.given:
        raise Refused(401, "UNAUTHENTICATED")
    if path != f"/v1/projects/-/serviceAccounts/{ACCOUNT}:generateAccessToken":
        raise Refused(404, "NOT_FOUND")
    until = (datetime.now(UTC) + timedelta(seconds=clouds.lifetime)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"accessToken": clouds.token("impersonated"), "expireTime": until}


# --- Entra -------------------------------------------------------------------------------------------------------


def _entra(clouds: Clouds, path: str, headers: Mapping[str, str], body: bytes) -> object:
    form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    if path != f"/{TENANT}/oauth2/v2.0/token":
        raise Refused(400, "AADSTS90002: Tenant not found.")
    if form["client_id"] != CLIENT:
        raise Refused(400, "AADSTS700016: Application was not found in the directory.")
    assert form["grant_type"] == "client_credentials"
    assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    assert form["scope"] == "https://cognitiveservices.azure.com/.default"
    claims = _verified(form["client_assertion"])
    if claims["aud"] != "api://AzureADTokenExchange" or claims["iss"] != ISSUER:
        raise Refused(401, "AADSTS700212: No matching federated identity record found for presented audience.")
    if claims["sub"] not in clouds.subjects:
        raise Refused(401, f"AADSTS700213: No matching federated identity record found for subject {claims['sub']}.")
    if not claims["iat"] - 5 <= time.time() < claims["exp"] <= claims["iat"] + 300:
        raise Refused(401, "AADSTS700024: Client assertion is not within its valid time range.")
    return {"token_type": "Bearer", "expires_in": clouds.lifetime, "access_token": clouds.token("entra")}


def _verified(assertion: str) -> dict[str, Any]:
    signed, _, signature = assertion.rpartition(".")
    try:
        _key().public_key().verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise Refused(401, "AADSTS700027: The certificate used to sign the assertion is not registered.") from None
    claims: dict[str, Any] = json.loads(_decoded(signed.split(".")[1]))
    return claims


_ANSWERS = {"container": _container, AWS: _aws, GOOGLE: _google, IMPERSONATION: _impersonation, ENTRA: _entra}


def _error(host: str, error: str) -> object:
    if host == ENTRA:
        return {"error": "invalid_client", "error_description": f"{error} Trace ID: 1", "error_codes": []}
    if host == AWS:
        return (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
            f"<Code>{error}</Code><Message>No.</Message></Error><RequestId>r</RequestId></ErrorResponse>"
        ).encode()
    return {"error": error, "error_description": "No."}


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


# --- the environment ---------------------------------------------------------------------------------------------


@contextmanager
def running_clouds(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Clouds]:
    """Serve on a free port of 127.0.0.1 until the block ends.

    :param patch: the test's own, which leads this process's requests for `HOSTS` there. A second one would be undone
        before it, and what the test itself sets would then be restored to what the second one had set.
    """
    server = _Server(("127.0.0.1", 0), _Handler)
    server.certificate = self_signed(folder, *HOSTS)
    clouds = server.clouds = Clouds(port=server.server_address[1])
    for name in ("HTTP_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        patch.delenv(name, raising=False)
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "GOOGLE_APPLICATION_CREDENTIALS"):
        patch.delenv(name, raising=False)
    patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{clouds.port}")
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE"):
        patch.setenv(name, str(server.certificate.certificate))
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    patch.setenv("AWS_REGION", REGION)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield clouds
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def lambda_credentials(patch: pytest.MonkeyPatch, clouds: Clouds, *, snapstart: bool) -> None:
    """The role's credentials where Lambda puts them: under SnapStart behind an address, else in variables."""
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "CONTAINER_CREDENTIALS_FULL_URI"):
        patch.delenv(f"AWS_{name}", raising=False)
    if snapstart:
        patch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{clouds.port}/v1/credentials")
        patch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", CONTAINER_AUTHORIZATION)
        return
    patch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    patch.setenv("AWS_SESSION_TOKEN", SESSION)
