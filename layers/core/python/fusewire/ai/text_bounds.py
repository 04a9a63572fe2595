"""The most bytes of a text, and of JSON, whatever a server makes of them on the way to its tokenizer."""

import re
from collections.abc import Callable
from typing import Final

_ESCAPE: Final = 6
"""Bytes of a UTF-16 unit as JSON writers escape it, `\\u003c`."""
_HTML: Final = "<>&'\x7f"
"""ASCII that some writers escape: Jinja2's own `tojson` and minijinja's `<>&'`, Go's `<>&` (Ollama)."""
_LINE_ENDS: Final = "\u2028\u2029"
"""Three bytes each; Go escapes them and leaves other letters."""

_PIECE: Final = 1024
_PIECE_SEAM: Final = 8
"""What composition across the seam of two pieces can change, in bytes: one letter with its marks."""

_STRUCTURE: Final = re.compile(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[{}\[\],:]|\d[eE]', re.DOTALL)
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_WORTH_COUNTING: Final = 24
"""Letters of a string within JSON from which on it is counted."""
_MAX_FLOAT: Final = 24
"""Of any 64-bit float's shortest form: -1.7976931348623157e+308."""


def text_bytes(text: str) -> int:
    """Bytes of the text, or of what a tokenizer's normalisation makes of it where that is more.

    NFKC in Claude's published tokenizer and in SentencePiece, small letters in BERT's: U+FDFA, three bytes, becomes 33.
    """
    if text.isascii():
        return len(text)
    import unicodedata  # here, since it is a megabyte

    bound = 0
    # In pieces, since normalising a long run of combining marks takes time by the square of its length.
    for start in range(0, len(text), _PIECE):
        piece = text[start : start + _PIECE]
        normal = unicodedata.normalize("NFKC", piece)
        bound += _PIECE_SEAM + max(map(plain_bytes, (piece, normal, normal.casefold())))
    return bound


def plain_bytes(text: str) -> int:
    """Bytes of the text as it is."""
    return len(text.encode("utf-8", errors="surrogatepass"))


def json_bytes(text: str, depth: int = 0) -> int:
    """The bound of JSON however a template writes it: on one line, spaced, or indented by four (`tojson(indent=4)`),
    and with its letters as they are or escaped.

    :param depth: the lists and objects that it stands in, where a template writes them as one
    """
    added = 4 * depth
    for found in _STRUCTURE.finditer(text):
        match found[0][-1]:
            case "{" | "[":
                depth += 1
                added += 1 + 4 * depth
            case "}" | "]":
                depth -= 1
                added += 1 + 4 * max(depth, 0)
            case ",":
                added += 1 + 4 * max(depth, 0)
            case ":":
                added += 1
            case "e" | "E":
                # 1e15 comes back as 1000000000000000.0
                added += _MAX_FLOAT
    return _escaped(text) + added


def counted_json_bytes(text: str, count: Callable[[str], int]) -> int:
    """The same where texts are counted in a vocabulary: a longer string within it costs its tokens, wherever it stands.

    Its lines are counted apart, since what stands for a line's end differs; one with an escape in it keeps its bytes.

    :param count: the most tokens of a text, whatever stands before and behind it
    """
    if not text.isascii():
        return hosted_json_bytes(text)
    lines = (line for found in _STRING.finditer(text) for line in found[1].split("\\n"))
    longer = (line for line in lines if len(line) >= _WORTH_COUNTING and "\\" not in line)
    return hosted_json_bytes(text) - sum(len(line) - min(len(line), count(line)) for line in longer)


def _escaped(text: str) -> int:
    """The bound of JSON as its text, or with whatever a server's JSON writer escapes.

    Hugging Face's `tojson` escapes no letters (transformers#31100), Jinja2's own does (llama-cpp-python), and so did
    llama.cpp's (minja#7) and TabbyAPI's (tabbyAPI#459); which one a server has can't be told from outside.
    """
    bound = text_bytes(text)
    if not text.isascii():
        ascii_bytes = len(text.encode("ascii", errors="ignore"))
        units = len(text.encode("utf-16-le", errors="surrogatepass")) // 2 - ascii_bytes
        line_ends = sum(map(text.count, _LINE_ENDS))
        bound = max(bound + (_ESCAPE - 3) * line_ends, ascii_bytes + _ESCAPE * units)
    return bound + (_ESCAPE - 1) * sum(map(text.count, _HTML))


def hosted_json_bytes(text: str) -> int:
    """The bound of JSON at a vendor that writes it in a form of its own, which isn't published: spaced, indented, or
    as declarations in a programming language.

    White space that is added at a mark counts as two tokens, for every vocabulary that is known has a token for a run
    of it, and so does what stands for a line's end within a description (`// ` at the next line's start).
    """
    found = (each[0] for each in _STRUCTURE.finditer(text))
    marks = sum(_MAX_FLOAT if mark[-1] in "eE" else 2 for mark in found if mark[0] != '"')
    return _escaped(text) + marks + 2 * text.count("\\n")
