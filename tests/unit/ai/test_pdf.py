"""The most pages that a PDF can have, however it is written; what can't be looked into isn't counted."""

import base64
import random
import zlib

import pytest

from fusewire.ai.pdf import max_pages
from tests.support.claude_code import pdf


def counted(data: bytes) -> int | None:
    return max_pages(base64.b64encode(data).decode())


def packed(objects: bytes, filters: bytes = b"/Filter /FlateDecode", more: bytes = b"") -> bytes:
    """A PDF whose pages stand in an object stream, as newer writers have them."""
    data = zlib.compress(objects) if b"Flate" in filters else objects
    head = b"<< /Type /ObjStm /N 3 /First 10 %b %b /Length %d >>" % (filters, more, len(data))
    return b"%PDF-1.5\n1 0 obj\n" + head + b"\nstream\n" + data + b"\nendstream\nendobj\n%%EOF"


PAGES = b"<< /Type /Pages /Kids [4 0 R] /Count 3 >> " + b"<< /Type /Page /Parent 2 0 R >> " * 3


@pytest.mark.parametrize("pages", [1, 2, 100, 700])
def test_pages_in_the_open(pages: int) -> None:
    assert counted(pdf(pages)) == pages


@pytest.mark.parametrize(
    ("data", "pages"),
    [
        (packed(PAGES), 3),
        (packed(PAGES, b""), 3),
        (packed(PAGES, b"/Filter [/FlateDecode]"), 3),
        (packed(b"<</Type/Page>>" * 5), 5),
        (packed(b"<< /Count 9 >>"), 9),
        (b"%PDF-1.4 <</Type /P#61ge>> <</Type/Pages>>", 1),
        (b"\n%PDF-1.4 /Type\n/Page", 1),
        (pdf(2).replace(b"/Count 2", b"/Count 50"), 50),
        (pdf(2).replace(b"/Count 2", b"/Count 0"), 2),
    ],
)
def test_wherever_they_stand(data: bytes, pages: int) -> None:
    assert counted(data) == pages


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a /Type /Page",
        b"%PDF-1.4 nothing",
        pdf(1) + b"trailer << /Encrypt 9 0 R >>",
        packed(PAGES, b"/Filter /LZWDecode"),
        packed(PAGES, b"/Filter [/ASCII85Decode /FlateDecode]"),
        packed(PAGES, more=b"/DecodeParms << /Predictor 12 >>"),
        packed(PAGES).replace(b"/ObjStm", b"/Obj#53tm"),
        packed(PAGES).replace(zlib.compress(PAGES), b"no zlib"),
        packed(b"x" * (17 * 1024 * 1024)),
    ],
    ids=range(10),
)
def test_what_cannot_be_looked_into_is_not_counted(data: bytes) -> None:
    assert counted(data) is None


def test_what_is_no_base64_is_not_counted() -> None:
    assert max_pages("a b") is None


def test_whatever_is_sent_ends_soon() -> None:
    words = [b"<<", b">>", b"/Type", b"/ObjStm", b"/Page", b" stream\n", b"endobj", b"#4F", b"/", b"x" * 50]
    source = random.Random(7)  # noqa: S311 - the same each time
    for _ in range(20):
        counted(b"%PDF-1.7" + b"".join(source.choices(words, k=20_000)))
