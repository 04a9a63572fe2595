"""Which heads of requests are taken, and which are refused before a route is looked for."""

import pytest

from local.request_line import fault_of, head_bytes, hides_a_slash, names_this_machine


def scope(path: bytes = b"/a", query: bytes = b"", hosts: int = 1, version: str = "1.1") -> dict[str, object]:
    return {"raw_path": path, "query_string": query, "headers": [(b"host", b"x")] * hosts, "http_version": version}


@pytest.mark.parametrize(
    ("head", "row"),
    [
        (scope(b"/a%"), "path has a %"),
        (scope(b"/a%zz"), "path has a %"),
        (scope(b"/a%4"), "path has a %"),
        (scope(query=b"a=100%"), "query string has a %"),
        (scope(b"/%ff"), "path isn't UTF-8"),
        (scope(b"/%c0%ae%c0%ae"), "path isn't UTF-8"),  # two dots, longer than they may be
        (scope(b"/%ed%a0%80"), "path isn't UTF-8"),  # half a surrogate pair
        (scope(query=b"a=%ff"), "query string isn't UTF-8"),
        (scope(b"/a%00b"), "control character"),
        (scope(b"/a%0d%0aX-Evil:1"), "control character"),
        (scope(b"/a%7f"), "control character"),
        (scope(hosts=0), "no Host"),
        (scope(hosts=2), "more than one Host"),
    ],
)
def test_what_nobody_should_have_to_guess_at_is_named(head: dict[str, object], row: str) -> None:
    assert row in (fault_of(head) or "")


@pytest.mark.parametrize(
    "head",
    [
        scope(),
        scope(b"/a%20b%C3%A9%25"),
        scope(query=b"group_by=tag:100%25&from=2026-11-25T09:00:00%2B01:00&a=%00"),
        scope(hosts=0, version="1.0"),
    ],
)
def test_the_rest_is_taken(head: dict[str, object]) -> None:
    assert fault_of(head) is None


def test_a_slash_in_disguise_is_seen() -> None:
    assert [hides_a_slash(scope(path)) for path in (b"/a%2fb", b"/a%2Fb", b"/a/b", b"/a%252fb")] == [1, 1, 0, 0]


@pytest.mark.parametrize("name", ["localhost", "LocalHost", "127.0.0.1", "[::1]"])
def test_names_of_this_machine_at_any_port(name: str) -> None:
    assert names_this_machine(name)
    assert names_this_machine(f"{name}:8000")


@pytest.mark.parametrize(
    "host",
    [
        *(None, "", ":8000", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evil@localhost", "localhost:8000@evil.example", "localhost:x", "::1", "127.0.0.2", "localhost\n"),
    ],
)  # fmt: skip
def test_no_other_name_is_this_machine(host: str | None) -> None:
    assert not names_this_machine(host)


def test_the_head_is_measured_whole() -> None:
    assert head_bytes(scope(b"/abc", b"x=1")) == len(b"/abcx=1hostx")
