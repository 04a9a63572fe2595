"""An image's size, from its header alone."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.image_size import image_size
from tests.support.pictures import data_url, gif, jpeg, png, webp

KNOWN = {
    "PNG": png(1920, 1080),
    "JPEG": jpeg(1920, 1080),
    "progressive JPEG": jpeg(1920, 1080, marker=0xC2),
    "JPEG with a preview that has a size of its own": jpeg(1920, 1080, before=150_000),
    "GIF": gif((1920, 1080), (0, 0, 1920, 1080)),
    "GIF whose picture is larger than its screen": gif((1, 1), (20, 80, 1900, 1000)),
    "WebP, extended": webp(b"VP8X", 1920, 1080),
    "WebP, lossy": webp(b"VP8 ", 1920, 1080),
    "WebP, lossless": webp(b"VP8L", 1920, 1080),
}


@pytest.mark.parametrize("data", KNOWN.values(), ids=KNOWN.keys())
def test_each_format_tells_its_size(data: bytes) -> None:
    assert image_size(data_url(data)) == (1920, 1080)


def test_what_the_type_says_doesnt_count() -> None:
    assert image_size(data_url(png(7, 9), "jpeg")) == (7, 9)
    assert image_size(data_url(png(7, 9)).replace("data:image", "DATA:Image")) == (7, 9)


UNREADABLE = {
    "an address": "https://example.com/a.png",
    "not base64": "data:image/png;base64,iVBOR*w0KGgo=",
    "not in base64": "data:image/png,iVBORw0KGgo=",
    "nothing": "data:image/png;base64,",
    "half a header": data_url(png(7, 9)[:18]),
    "no width": data_url(png(0, 9)),
    "another format": data_url(b"\0\0\0\x18ftypheic", "heic"),
    # Its height stands behind the picture, in a DNL segment.
    "a JPEG without a height": data_url(jpeg(7, 0)),
    "a JPEG with two sizes": data_url(jpeg(7, 9)[:-4] + jpeg(70, 90)[2:]),
    "a JPEG that ends before its picture": data_url(jpeg(7, 9)[:-4] + b"\xff\xd9"),
    "a JPEG of previews alone": data_url(jpeg(7, 9, before=600_000)),
    "a GIF without a picture": data_url(gif((7, 9), (0, 0, 7, 9))[:19]),
}


@pytest.mark.parametrize("url", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cant_be_read_has_no_size(url: str) -> None:
    assert image_size(url) is None


@given(
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8L", b""]),
    st.binary(max_size=99),
)
def test_no_header_stops_a_call(head: bytes, rest: bytes) -> None:
    size = image_size(data_url(head + rest))
    assert size is None or min(size) > 0


def test_a_file_of_any_length_takes_the_time_of_its_header() -> None:
    url = data_url(png(60_000, 60_000, size=20_000_000))
    blocks = data_url(b"GIF89a" + b"\x01\0\x01\0\0\0\0" + b"!\xfe" + b"\x01x" * 10_000_000)
    started = time.thread_time()
    assert image_size(url) == (60_000, 60_000)
    assert image_size(blocks) is None
    assert time.thread_time() - started < 1
