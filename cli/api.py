"""The admin API over HTTP: JSON in and out, money exact, and one line for whatever goes wrong."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import simplejson

DEFAULT_URL: Final = "http://localhost:8000"
_BASE: Final = "/api/v1"
_SECONDS: Final = 60
_MAX_PAGE: Final = 1000
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_OF_KEYS: Final = {
    401: "set FUSEWIRE_KEY to a key with the admin scope",
    403: "FUSEWIRE_KEY needs the admin scope, or read to look only",
}


class ApiError(Exception):
    """What went wrong, in one line for the operator."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the key to wherever it leads."""

    def redirect_request(self, *arguments: object) -> None:
        return None


class Api:
    """One gateway. `FUSEWIRE_URL` says where it is, with or without `/api/v1`; `FUSEWIRE_KEY` is sent as the key."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """:raises ApiError: when the URL can't be used"""
        self._url = (environ.get("FUSEWIRE_URL", "").strip() or DEFAULT_URL).rstrip("/")
        self._key = environ.get("FUSEWIRE_KEY", "").strip()
        try:
            parts = urlsplit(self._url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ApiError(f"FUSEWIRE_URL={self._url} can't be used: it must be http:// or https:// and a host")
        if not (self._key.isascii() and self._key.isprintable()):
            raise ApiError("FUSEWIRE_KEY can't be used: a key is printable ASCII")
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if parts.hostname in LOOPBACK:
            handlers.append(
                urllib.request.ProxyHandler({})
            )  # a proxy that the environment names isn't for this machine
        self._opener = urllib.request.build_opener(*handlers)

    def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON is anything
        """The answer to a GET; None values are left out of the query.

        :raises ApiError: when there is none, or it is an error
        """
        return _parsed(self.send("GET", path, query=query), self._url)

    def text(self, path: str, accept: str, **query: object) -> str:
        """The same for another type than JSON."""
        return self.send("GET", path, query=query, accept=accept).decode()

    def change(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401
        """The answer to a POST, PATCH or DELETE. :raises ApiError: as `get`"""
        return _parsed(self.send(method, path, body=body), self._url)

    def rows(self, path: str, most: int, **query: object) -> Iterator[dict[str, Any]]:
        """The first `most` rows of a listing, over as many pages as that takes. :raises ApiError: as `get`"""
        cursor = None
        while most > 0:
            page = self.get(path, limit=min(most, _MAX_PAGE), cursor=cursor, **query)
            for row in page["rows"][:most]:
                yield row
                most -= 1
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, object] | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """One request. :raises ApiError: as `get`"""
        asked = urlencode({name: str(value) for name, value in (query or {}).items() if value is not None})
        base = self._url if self._url.endswith(_BASE) else self._url + _BASE
        request = urllib.request.Request(  # noqa: S310 - http or https, see above
            f"{base}{path}{'?' if asked else ''}{asked}",
            data=None if body is None else dumps(body).encode(),
            headers={"Accept": accept, "Content-Type": "application/json"},
            method=method,
        )
        if self._key:
            request.add_unredirected_header("Authorization", f"Bearer {self._key}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise ApiError(_message_of(error, self._url)) from None
        except (OSError, HTTPException) as error:
            raise ApiError(
                f"nothing usable answers at {self._url} ({_reason(error)}): see that it runs, or set FUSEWIRE_URL"
            ) from None


def dumps(value: object, indent: int | None = None) -> str:
    """JSON with every digit of its money."""
    text: str = simplejson.dumps(value, use_decimal=True, ensure_ascii=False, indent=indent)
    return text


def path_of(*parts: str) -> str:
    """`/keys/<id>`, whatever is in the id. :raises ApiError: for an empty part, which would name something else"""
    if not all(parts) or any(part in (".", "..") for part in parts):
        raise ApiError("an id is needed")
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _parsed(content: bytes, url: str) -> Any:  # noqa: ANN401
    try:
        return simplejson.loads(content, use_decimal=True)
    except ValueError:
        raise ApiError(f"what answers at {url} isn't fusewire (no JSON): set FUSEWIRE_URL") from None


def _message_of(error: urllib.error.HTTPError, url: str) -> str:
    """An error's own words, what may help, and the id to look for in the log."""
    try:
        body = simplejson.loads(error.read())["error"]
        message, code = str(body["message"]).rstrip("."), body["code"]
    except (ValueError, LookupError, TypeError, OSError, HTTPException):
        return f"{url} answered {error.code} with nothing that fusewire says: set FUSEWIRE_URL"
    parts = [message, *([_OF_KEYS[error.code]] if error.code in _OF_KEYS else [])]
    request_id = error.headers.get("x-request-id")
    return f"{'; '.join(parts)} ({code}{f', request {request_id}' if request_id else ''})"


def _reason(error: OSError | HTTPException) -> str:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate: {reason.verify_message}"
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
