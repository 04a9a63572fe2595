"""How many pages a PDF has at most, from its bytes alone: what a vendor bills for one goes by its pages.

Every page is an object of the type Page, in the file itself or in one of its object streams, and every tree of pages
says how many it has (ISO 32000-1, 7.5.7 and 7.7.3). Objects that an update replaced count too, so that the count may be
too high and not too low. What can't be looked into isn't counted at all: an encrypted file, or an object stream that is
packed in another way than usual.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from typing import Final

_PAGE: Final = re.compile(rb"/Type\s*/Page(?![A-Za-z])")
_COUNT: Final = re.compile(rb"/Count\s+(\d{1,7})(?!\d)")
_STREAM: Final = re.compile(rb"<<((?:(?!<<|>>\s*stream|endobj)[\s\S]|<<[^<>]*>>)*)>>\s*stream\r?\n?")
_ESCAPED: Final = re.compile(rb"#([0-9A-Fa-f]{2})")
_WINDOW: Final = 2048
"""Bytes on either side of its type within which the dictionary of a stream is looked for."""
_MAX_UNPACKED: Final = 16 * 1024 * 1024
"""Bytes of all object streams of one file."""


def max_pages(encoded: str) -> int | None:
    """The most pages that a PDF can have; None where that can't be told.

    :param encoded: the file, in base64
    """
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.lstrip()[:5] == b"%PDF-" or re.search(rb"/Encrypt\b", data):
        return None
    try:
        parts = [_plain(data), *map(_plain, _object_streams(data))]
    except (zlib.error, ValueError):
        return None
    pages = sum(len(_PAGE.findall(part)) for part in parts)
    counts = [int(found) for part in parts for found in _COUNT.findall(part)]
    return max(pages, *counts, 0) or None


def _plain(data: bytes) -> bytes:
    """With names as they are meant: `/P#61ge` is `/Page`."""
    if b"#" not in data:
        return data
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), data)


def _object_streams(data: bytes) -> Iterator[bytes]:
    """
    :raises ValueError: for one that can't be unpacked here
    """
    left = _MAX_UNPACKED
    for place in _places(data, b"ObjStm"):
        dictionaries = _STREAM.finditer(data, max(0, place - _WINDOW), place + _WINDOW)
        found = next((each for each in dictionaries if each.start(1) <= place < each.end(1)), None)
        if found is None or b"DecodeParms" in found[1]:
            raise ValueError
        filters = re.findall(rb"/\w*Decode\b", _plain(found[1]))
        if filters not in ([], [b"/FlateDecode"]):
            raise ValueError
        if not filters:
            continue  # it is read as it stands
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(memoryview(data)[found.end() :], left)
        if unpacker.unconsumed_tail:
            raise ValueError
        left -= len(unpacked)
        yield unpacked


def _places(data: bytes, name: bytes) -> Iterator[int]:
    if re.search(rb"/[A-Za-z]*#", data) and name in _plain(data) and _plain(data).count(name) != data.count(name):
        raise ValueError  # a name that hides what it is
    return (found.start() for found in re.finditer(rb"/" + name + rb"\b", data))
