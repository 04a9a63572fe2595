"""What a browser gets from `make run` beside the console: a page of links, and the manual as text. On AWS there is none
of this.

Nothing here is a secret, so no key is asked for, and nothing comes from anywhere else: no script, no font, no image.
"""

import base64
import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from fusewire import VERSION
from local.asgi import RawHeaders, header_of

_PROJECT: Final = Path(__file__).resolve().parent.parent
_DOCUMENTS: Final = {
    "/README.md": "What it is, and how to start",
    "/docs/operations.md": "Operations manual: budget, keys, settings, troubleshooting",
    "/docs/operations.ja.md": "運用マニュアル (日本語)",
    "/docs/providers.md": "Providers, and what each one takes",
    "/docs/architecture.md": "Architecture: the path of one request",
}
_FOR_EVERYBODY: Final = {
    "/api/v1/openapi.json": "Every route, as OpenAPI 3.1",
    "/api/v1/health": "Health",
}
_WITH_A_KEY: Final = {
    "/api/v1/models": "Models, and what they cost",
    "/api/v1/admin/budget": "The budget, and what is left of it",
    "/api/v1/admin/providers": "Providers, and how they are",
}
_STYLE: Final = (
    "body{font:16px/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;color-scheme:light dark}"
    "code{font-size:.9em}li{margin:.2rem 0}"
)
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LINKS: Final = "/docs"


def safe_headers(policy: str, kept: str = "no-cache") -> RawHeaders:
    """
    :param policy: the Content-Security-Policy
    :param kept: for how long a browser keeps it, as `Cache-Control`
    """
    return [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", kept.encode()),
    ]


@dataclass(frozen=True, slots=True)
class Page:
    status: int
    headers: RawHeaders
    body: bytes


class Console(Protocol):
    """What is at `/` once it is built."""

    note: str

    def page(self, path: str) -> Page | None: ...


def page_of(scope: Mapping[str, Any], *, is_open: bool, console: Console) -> Page | None:
    """The page that a request asks for; None where it asks for something else.

    :param is_open: whether a browser, which sends no key, can follow every link
    """
    path = scope["path"]
    if scope["method"] not in ("GET", "HEAD"):
        return None
    if path == "/" and not _takes_html(scope):
        return None
    if (page := console.page(path)) is not None:
        return page
    if path in ("/", _LINKS):
        note = console.note if path == "/" else ""
        return _page("text/html", _links(is_open=is_open, note=note).encode())
    if path in _DOCUMENTS:
        return _page("text/plain", (_PROJECT / path[1:]).read_bytes())
    if path == "/favicon.ico":
        return Page(204, [(b"cache-control", b"max-age=86400")], b"")
    return None


def _takes_html(scope: Mapping[str, Any]) -> bool:
    """Whether the client names HTML, as browsers do; curl and the SDKs take anything, and are told in JSON."""
    kinds = (header_of(scope, b"accept") or "").lower().split(",")
    return "text/html" in [kind.partition(";")[0].strip() for kind in kinds]


def _page(kind: str, body: bytes) -> Page:
    own = [(b"content-type", f"{kind}; charset=utf-8".encode()), (b"content-length", b"%d" % len(body))]
    return Page(200, [*safe_headers(_POLICY), *own], body)


def _links(*, is_open: bool, note: str) -> str:
    with_a_key = "".join(
        _item(path, title) if is_open else f"<li><code>{path}</code>: {title}</li>"
        for path, title in _WITH_A_KEY.items()
    )
    keys = "" if is_open else "<p>These ask for a key, as <code>Authorization: Bearer</code>:</p>"
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>fusewire</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style><h1>fusewire {VERSION}</h1>"
        "<p>An AI gateway whose budget can't be overrun. Applications call it at <code>/api/v1</code>, "
        "with OpenAI's or Anthropic's SDK.</p>"
        f"{f'<h2>Console</h2><p>{html.escape(note)}</p>' if note else ''}"
        f"<h2>API</h2><ul>{_items(_FOR_EVERYBODY)}</ul>{keys}<ul>{with_a_key}</ul>"
        f"<h2>Documentation</h2><ul>{_items(_DOCUMENTS)}</ul></html>\n"
    )


def _items(links: Mapping[str, str]) -> str:
    return "".join(_item(path, title) for path, title in links.items())


def _item(path: str, title: str) -> str:
    return f'<li><a href="{path}">{title}</a></li>'
