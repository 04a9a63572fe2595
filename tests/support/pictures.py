"""Image files that are a header and whatever follows it: as much of them as the gateway reads."""

import base64
import struct


def png(width: int, height: int, size: int = 0) -> bytes:
    """:param size: bytes of the whole file"""
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)
    return head.ljust(size, b"\0")


def jpeg(width: int, height: int, *, before: int = 0, marker: int = 0xC0) -> bytes:
    """:param before: bytes of a preview before the frame's header"""
    parts = [b"\xff\xd8"]
    while before > 0:
        length = min(before, 65_533)
        parts.append(b"\xff\xe1" + struct.pack(">H", length + 2) + b"\xff\xc0" * (length // 2) + b"\0" * (length % 2))
        before -= length
    frame = struct.pack(">BHH", 8, height, width) + b"\x03" + b"\0" * 9
    parts += [b"\xff", bytes([marker]), struct.pack(">H", len(frame) + 2), frame, b"\xff\xda\0\x0c"]
    return b"".join(parts)


def gif(screen: tuple[int, int], picture: tuple[int, int, int, int]) -> bytes:
    """:param picture: left, top, width and height of the first one"""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0" * 6
    return head + b"!\xf9\x04\0\0\0\0\0" + b"," + struct.pack("<HHHHB", *picture, 0)


def webp(kind: bytes, width: int, height: int) -> bytes:
    if kind == b"VP8X":
        body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif kind == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\x10\0\0\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\0\0\0\0WEBP" + kind + struct.pack("<I", len(body)) + body


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
