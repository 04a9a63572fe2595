"""An image's width and height, from the first bytes of its file: what a vendor bills for one goes by its size.

Only the header is read, so that an image that would unpack to gigabytes costs no more than another. Where a file could
be read in two ways, there is no size: a second frame header in a JPEG, or a height that stands at the end of its data.
Sources: the PNG specification (11.2.2), ITU-T T.81 (B.2.2), GIF89a (18 and 20), Google's "WebP Container
Specification" and RFC 6386 (9.1).
"""

import base64
import binascii
import re
from typing import Final

from fusewire.ai.counting import ImageSize

_DATA: Final = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_MAX_HEADER: Final = 512 * 1024
"""Bytes that are looked at: before its frame header a JPEG has its comments, colours and previews, of 64 KiB each."""
_MAX_SEGMENTS: Final = 512

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_STANDING_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_START_OF_SCAN: Final = 0xDA
_END: Final = 0xD9


def image_size(url: str) -> ImageSize | None:
    """The size of the image in a `data:` URL; None for an address, another format, or a header that can't be read."""
    found = _DATA.match(url[:64])
    if found is None:
        return None
    encoded = url[found.end() : found.end() + _MAX_HEADER * 4 // 3]
    try:
        data = base64.b64decode(encoded[: len(encoded) // 4 * 4], validate=True)
    except (binascii.Error, ValueError):
        return None
    size = _read(data)
    return size if size is not None and min(size) > 0 else None


def _read(data: bytes) -> ImageSize | None:
    if data.startswith(_PNG):
        return _sized(data, 16, 4, "big") if data[12:16] == b"IHDR" else None
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _gif(data)
    return _webp(data) if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _number(data: bytes, start: int, length: int, order: str) -> int | None:
    part = data[start : start + length]
    if len(part) < length:
        return None
    return int.from_bytes(part, "big" if order == "big" else "little")


def _sized(data: bytes, start: int, length: int, order: str) -> ImageSize | None:
    """Width and height side by side."""
    width, height = _number(data, start, length, order), _number(data, start + length, length, order)
    return None if width is None or height is None else ImageSize(width, height)


def _jpeg(data: bytes) -> ImageSize | None:
    found: ImageSize | None = None
    place = 2
    for _ in range(_MAX_SEGMENTS):
        if data[place : place + 1] != b"\xff":
            return None
        while data[place + 1 : place + 2] == b"\xff":  # bytes that fill up
            place += 1
        marker = data[place + 1] if place + 1 < len(data) else _END
        if marker == _START_OF_SCAN:
            return found
        if marker in _STANDING_ALONE:
            place += 2
            continue
        length = _number(data, place + 2, 2, "big")
        if marker == _END or length is None or length < 2:
            return None
        if marker in _FRAME_HEADERS:
            height, width = _number(data, place + 5, 2, "big"), _number(data, place + 7, 2, "big")
            if found is not None or width is None or height is None:
                return None
            found = ImageSize(width, height)
        place += 2 + length
    return None


def _gif(data: bytes) -> ImageSize | None:
    """The larger of the screen and of the first picture on it, which may reach beyond."""
    screen = _sized(data, 6, 2, "little")
    if screen is None or len(data) < 13:
        return None
    place = 13 + _colours(data[10])
    for _ in range(_MAX_SEGMENTS):
        kind = data[place : place + 1]
        if kind == b",":
            corner, picture = _sized(data, place + 1, 2, "little"), _sized(data, place + 5, 2, "little")
            if corner is None or picture is None:
                return None
            return ImageSize(*(max(a, b + c) for a, b, c in zip(screen, corner, picture, strict=True)))
        if kind != b"!":
            return None
        place += 2
        while block := (data[place] if place < len(data) else 0):
            place += 1 + block
        place += 1
    return None


def _colours(flags: int) -> int:
    """Bytes of a table of colours."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> ImageSize | None:
    match data[12:16]:
        case b"VP8X":
            size = _sized(data, 24, 3, "little")
            return None if size is None else ImageSize(size.width + 1, size.height + 1)
        case b"VP8 ":
            size = _sized(data, 26, 2, "little") if data[23:26] == b"\x9d\x01\x2a" else None
            return None if size is None else ImageSize(size.width & 0x3FFF, size.height & 0x3FFF)
        case b"VP8L":
            bits = _number(data, 21, 4, "little") if data[20:21] == b"\x2f" else None
            return None if bits is None else ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    return None
