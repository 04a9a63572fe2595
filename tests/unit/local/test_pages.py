"""The page of links that a browser gets at `/`, and what a browser may do with it."""

import re
from typing import Any

import pytest

from fusewire.http.routes import ROUTES
from local.console import Console
from local.pages import Page, page_of
from local.template import read_template
from tests.support.gateway import PROJECT

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def asked(
    path: str,
    accept: str | None = BROWSER,
    *,
    method: str = "GET",
    is_open: bool = True,
    console: Console | None = None,
) -> Page | None:
    headers = [] if accept is None else [(b"accept", accept.encode())]
    scope: dict[str, Any] = {"method": method, "path": path, "headers": headers}
    return page_of(scope, is_open=is_open, console=Console() if console is None else console)


def shown(path: str, *, is_open: bool = True) -> str:
    page = asked(path, is_open=is_open)
    assert page is not None
    assert dict(page.headers)[b"content-length"] == b"%d" % len(page.body)
    return page.body.decode()


def links(*, is_open: bool) -> list[str]:
    return re.findall(r'href="([^"]*)"', shown("/", is_open=is_open))


@pytest.mark.parametrize("is_open", [True, False])
def test_every_link_leads_somewhere_on_this_gateway(is_open: bool) -> None:
    routes = {route.path for route in read_template(PROJECT / "infra" / "template.yaml", {}).routes}
    leading = links(is_open=is_open)
    assert len(leading) == len(set(leading)) > 5
    for link in leading:
        assert link in routes or shown(link) == (PROJECT / link[1:]).read_text()
    assert "/api/v1/openapi.json" in leading and "/api/v1/health" in leading


def test_with_keys_nothing_is_a_link_that_a_browser_cant_follow() -> None:
    assert {link for link in links(is_open=False) if link.startswith("/api/")} == {
        route.path for route in ROUTES if route.access == "everybody"
    }
    assert {"/api/v1/models", "/api/v1/admin/budget"} <= set(links(is_open=True))
    assert "<code>/api/v1/admin/budget</code>" in shown("/", is_open=False)


def test_a_page_runs_nothing_and_asks_nobody_else() -> None:
    page = asked("/")
    assert page is not None
    headers = dict(page.headers)
    policy = dict(part.strip().partition(" ")[::2] for part in headers[b"content-security-policy"].decode().split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy.keys() == {"default-src", "style-src", "base-uri", "form-action", "frame-ancestors"}
    assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy["style-src"])
    text = page.body.decode()
    assert not re.search(r"<script|<img|<link|<iframe|https?:|//|style=| on\w+=", text)
    assert headers[b"content-type"] == b"text/html; charset=utf-8"
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_manual_is_text_and_not_a_page() -> None:
    page = asked("/docs/operations.md", "*/*")
    assert page is not None
    assert dict(page.headers)[b"content-type"] == b"text/plain; charset=utf-8"
    assert "日本語" in shown("/docs/operations.ja.md") or "予算" in shown("/docs/operations.ja.md")


def test_without_the_console_the_page_says_why_and_with_it_the_links_have_a_page_of_their_own() -> None:
    console = Console()
    console.note = "It can't be built: <registry>"
    page = asked("/", console=console)
    assert page is not None
    assert b"It can&#x27;t be built: &lt;registry&gt;" in page.body
    links = asked("/docs", console=console)
    assert links is not None
    assert b"Documentation" in links.body
    assert b"registry" not in links.body


def test_a_browsers_icon_is_nothing_and_no_error() -> None:
    icon = asked("/favicon.ico", "image/avif,image/webp,*/*")
    assert icon is not None
    assert (icon.status, icon.body) == (204, b"")


@pytest.mark.parametrize("accept", [None, "*/*", "application/json", "text/*", "application/json, */*"])
def test_who_doesnt_ask_for_html_gets_none(accept: str | None) -> None:
    assert asked("/", accept) is None


@pytest.mark.parametrize("path", ["/docs/", "/docs/../.env", "/.env", "/pyproject.toml", "//", "/api/v1/health"])
def test_nothing_else_is_a_page(path: str) -> None:
    assert asked(path) is None


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "DELETE"])
def test_a_page_is_only_read(method: str) -> None:
    assert asked("/", method=method) is None
