"""Bodies and query strings that nobody means well with; each is to be refused by a 4xx, in bounds."""

import gzip
import json
from typing import Any, Final

CHAT: Final[dict[str, Any]] = {"model": "sota", "messages": [{"role": "user", "content": "hi"}]}
PLAIN: Final = {"content-type": "application/json"}
_MODEL: Final = b'{"messages":[{"role":"user","content":"hi"}],"model":%s}'


def chat(**fields: object) -> bytes:
    return json.dumps(CHAT | fields).encode()


def nested(depth: int) -> bytes:
    tool = '{"type":"function","function":{"name":"f","parameters":{"a":%s}}}' % ("[" * depth + "]" * depth)
    return chat()[:-1] + b',"tools":[' + tool.encode() + b"]}"


def with_number(field: str, number: str) -> bytes:
    return chat()[:-1] + f',"{field}":{number}}}'.encode()


def _many(before: bytes, value: bytes, after: bytes = b"]}", size: int = 5_900_000) -> bytes:
    return before + b",".join([value] * (size // (len(value) + 1))) + after


BODIES: Final[dict[str, tuple[bytes, dict[str, str]]]] = {
    "nothing": (b"", PLAIN),
    "NUL bytes": (b"\0" * 1000, PLAIN),
    "no UTF-8": (b'{"model":"\xff\xfe"}', PLAIN),
    "a byte order mark": (b"\xef\xbb\xbf" + chat(), PLAIN),
    "UTF-16": (json.dumps(CHAT).encode("utf-16"), PLAIN),
    "no object": (b"[]", PLAIN),
    "two objects": (chat() + chat(), PLAIN),
    "cut off": (chat()[:-3], PLAIN),
    "brackets": (b"[" * 1_000_000, PLAIN),
    "objects in objects": (b'{"a":' * 200_000, PLAIN),
    "a deep tool": (nested(100_000), PLAIN),
    "a number in place of messages": (b'{"model":"sota","messages":1}', PLAIN),
    "no messages": (b'{"model":"sota","messages":[]}', PLAIN),
    "not a number": (with_number("temperature", "NaN"), PLAIN),
    "infinity": (with_number("top_p", "Infinity"), PLAIN),
    "a number past every float": (with_number("temperature", "1e999"), PLAIN),
    "a number of a million digits": (with_number("max_tokens", "9" * 1_000_000), PLAIN),
    "a cap past 32 bits": (with_number("max_tokens", "2147483648"), PLAIN),
    "a cap past 64 bits": (with_number("max_completion_tokens", "18446744073709551616"), PLAIN),
    "a negative cap": (with_number("max_tokens", "-1"), PLAIN),
    "a seed past 64 bits": (with_number("seed", "9223372036854775808"), PLAIN),
    "a negative n": (with_number("n", "-1"), PLAIN),
    "many answers": (with_number("n", "1000000"), PLAIN),
    "a hidden infinity": (chat()[:-1] + b',"tools":[{"type":"function","function":{"name":"f",'
                          b'"parameters":{"a":[{"b":-Infinity}]}}}]}', PLAIN),
    "an unknown field": (chat(__proto__={}), PLAIN),
    "a field of 5 MB": (b'{"' + b"a" * 5_000_000 + b'":1}', PLAIN),
    "half a million fields": (b"{" + b",".join(b'"a%d":0' % n for n in range(500_000)) + b"}", PLAIN),
    "three million messages": (_many(b'{"model":"sota","messages":[', b"0"), PLAIN),
    "two million parts": (_many(b'{"model":"sota","messages":[{"role":"user","content":[', b"{}", b"]}]}"), PLAIN),
    "two million inputs": (_many(b'{"model":"sota","input":[', b"{}"), PLAIN),
    "two million token ids": (_many(b'{"model":"sota","input":[', b"-1"), PLAIN),
    "a million nests": (_many(b'{"model":"sota","input":[', b"[" * 90 + b"]" * 90), PLAIN),
    "the most values that are let through": (_many(b'{"model":"sota","messages":[', b"0", size=199_900), PLAIN),
    "the most token ids that are let through": (_many(b'{"model":"sota","input":[', b"-1", size=1_199_000), PLAIN),
    "line breaks in the model's name": (_MODEL % rb'"openai/m\r\nx-evil: 1"', PLAIN),
    "an event in the model's name": (_MODEL % rb'"openai/m\n\ndata: {\"evil\": 1}\n\n"', PLAIN),
    "NUL in the model's name": (_MODEL % rb'"openai/m\u0000"', PLAIN),
    "half a surrogate pair in the model's name": (_MODEL % rb'"openai/\ud800"', PLAIN),
    "a long model's name": (_MODEL % (b'"openai/' + b"m" * 100_000 + b'"'), PLAIN),
    "a model's name out of paths": (_MODEL % b'"openai/../../admin"', PLAIN),
    "SQL for a model": (_MODEL % b'"\'; DROP TABLE ledger; --"', PLAIN),
    "a prompt of 6 MB": (chat(messages=[{"role": "user", "content": "x" * 6_000_000}]), PLAIN),
    "a prompt of 10 MB": (chat(messages=[{"role": "user", "content": "x" * 10_400_000}]), PLAIN),
    "a prompt of 11 MB": (chat(messages=[{"role": "user", "content": "x" * 11_000_000}]), PLAIN),
    "packed": (gzip.compress(chat()), PLAIN | {"content-encoding": "gzip"}),
    "a bomb": (gzip.compress(b"0" * 200_000_000, 1), PLAIN | {"content-encoding": "gzip"}),
    "packed, it says": (chat(), PLAIN | {"content-encoding": "br"}),
    "packed twice, it says": (chat(), PLAIN | {"content-encoding": "gzip, gzip"}),
    "XML": (b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", {"content-type": "application/xml"}),
    "text": (chat(), {"content-type": "text/plain"}),
    "a form": (b"model=sota", {"content-type": "application/x-www-form-urlencoded"}),
    "parts": (chat(), {"content-type": "multipart/form-data; boundary=x"}),
    "a long type": (chat(), {"content-type": "a/" + "b" * 5_000}),
    "an empty classification": (chat(), PLAIN | {"x-fusewire-classification": ""}),
    "an unknown classification": (chat(), PLAIN | {"x-fusewire-classification": "public, confidential"}),
}  # fmt: skip

QUERIES: Final = (
    "usage?from=2026-02-30", "usage?from=-1", "usage?from=99999-01-01", "usage?month=2026-00", "usage?limit=0",
    "usage?limit=-1", "usage?limit=1e3", "usage?limit=99999999999999999999", "usage?limit=" + "9" * 5_000,
    "usage?limit=%D9%A1%E2%80%8B", "usage?group_by=day;DROP%20TABLE%20ledger", "usage?group_by=tag:" + "a" * 200,
    "usage?group_by=" + "day," * 1_000, "usage?cursor=%00", "usage?cursor=W1tbW1tb", "usage?cursor=WzFd",
    "usage?cursor=bnVsbA==", "usage?day=1&day=2", "usage?limit=1&limit=2", "calls?cursor=1",
    "calls?cursor=%27%20OR%201=1--",
    "calls?from=2026-11-25T09:00:00", "calls?from=2026-11-25T09:00:00%2B99:99", "calls?to=9999-12-31T23:59:59Z",
    "calls?from=0001-01-01T00:00:00Z", "calls?status=settled%27--", "calls?provider=" + "a" * 300, "calls?__proto__=1",
    "audit?cursor=-1", "audit?cursor=9223372036854775808", "audit?cursor=1.5", "audit?cursor=0x10", "audit?actor=",
    "keys?cursor=key_", "keys?limit=1001", "providers?probe=%0d%0aX-Evil:1", "providers?probe=1",
)  # fmt: skip

HARMLESS: Final = (
    "calls?provider=%27%20OR%201=1--", "calls?provider=a%00b", "calls?key=%25%27;--", "audit?actor=%00",
    "calls?from=2026-11-25T09:00:00%2B23:59&to=8000-01-01T00:00:00-23:59",
    "usage?group_by=tag:%27%20OR%201=1--", "usage?group_by=tag:%3D1%2B1", "usage?cursor=WyJcdTAwMDAiXQ==",
    "usage?cursor=WyJcdWQ4MDAiXQ==", "calls?model=e%CC%81",
)  # fmt: skip
"""Odd, but what they ask for can be answered: with nothing, or with everything that there is."""
