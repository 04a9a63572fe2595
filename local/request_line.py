"""What is wrong with a request before any route is looked for: nobody behind the gateway should have to guess."""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

MAX_HEAD_BYTES: Final = 10_240  # API Gateway's limit, for the request line and the headers together
HEAD_TOO_LARGE: Final = f"The request line and the headers hold more than {MAX_HEAD_BYTES:,} bytes together."
TOO_SLOW: Final = "The request didn't arrive whole in time."
_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_THIS_MACHINE: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def fault_of(scope: Mapping[str, Any]) -> str | None:
    """Why the path, the query string or the host can't be understood; None when they can."""
    for name, raw in (("path", scope["raw_path"]), ("query string", scope["query_string"])):
        if _BAD_ESCAPE.search(raw):
            return f"The {name} has a % that isn't followed by two hexadecimal digits. A % itself is written %25."
        try:
            # Proxies differ in what they make of these: what one of them lets pass another may take for something else.
            text = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return f"The {name} isn't UTF-8 when its % escapes are resolved."
        if name == "path" and _CONTROL.search(text):
            return "The path holds a control character."
    hosts = sum(header == b"host" for header, _ in scope["headers"])
    if hosts != 1 and scope["http_version"] == "1.1":
        return "The request has no Host header." if not hosts else "The request has more than one Host header."
    return None


def names_this_machine(host: str | None) -> bool:
    """Whether a Host header's value is one of the names that no DNS server answers for.

    A page may have its own name lead to this machine: its browser then takes the gateway for a part of the page's site.
    """
    return host is not None and _THIS_MACHINE.fullmatch(host) is not None


def host_name(host: str | None) -> str:
    """A Host header's name in small letters, without its port; empty where there is none."""
    return "" if host is None else re.sub(r":\d*$", "", host).lower()


def head_bytes(scope: Mapping[str, Any]) -> int:
    """How much the request line and the headers hold."""
    return (
        len(scope["raw_path"])
        + len(scope["query_string"])
        + sum(len(name) + len(value) for name, value in scope["headers"])
    )


def hides_a_slash(scope: Mapping[str, Any]) -> bool:
    """Whether a slash in the path is written so that not everybody sees it as one: then it is part of no route."""
    return b"%2f" in scope["raw_path"].lower()
