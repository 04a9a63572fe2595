"""The most tokens that one image is billed at, by the model's own documented formula and the image's size.

Vendors scale an image that is too large down before they count, so that each formula has a largest value, which counts
where the size isn't known: an image behind an address, or in a format whose header isn't read. None is scaled up.
Where a vendor's documentation and a usage that was seen differ, the larger of the two counts. For a model whose way of
counting isn't documented, every image is bounded by the dearest that is known of any vendor.
"""

import re
from collections.abc import Sequence
from typing import Final

from fusewire.ai.counting import MAX_IMAGE_TOKENS, ImageSize, ImageTokens, any_image


def _tiles(base: int, tile: int) -> ImageTokens:
    """OpenAI's older way: scaled into a square of 2,048 and then to 768 on the short side, in tiles of 512.

    Source: OpenAI, "Images and vision: calculating costs". Half a pixel may be rounded either way (OpenAI's forum,
    "Vision pricing calculator: inaccurate resizing": 2049 x 513 was billed 8 tiles, 2050 x 513 four): here always up.
    """

    def count(size: ImageSize) -> int:
        long, short = max(size), min(size)
        top, least, most = long, short, short
        if long > 2048:
            top, least, most = 2048, short * 2048 // long, _up(short * 2048, long)
        if most > 768:
            top, most = min(2048, _up(top * 768, max(least, 1))), 768
        return _up(top, 512) * _up(most, 512)

    def tokens(size: ImageSize | None, detail: str) -> int:
        if detail == "low":
            return base
        return base + tile * (8 if size is None else count(size))

    return tokens


def _patches(thousandths: int, budget: int, budget_at_auto: int | None = None) -> ImageTokens:
    """OpenAI's newer way: squares of 32 pixels, up to a budget, times a factor. `low` saves nothing that is sure.

    Source: OpenAI, "Images and vision: calculating costs"; that `low` has no effect, and billed sizes: OpenAI's forum,
    "Introducing GPT-5.4 mini and nano".

    :param thousandths: the factor
    :param budget: patches at `high`
    :param budget_at_auto: patches at `auto`, which is `original` with some models; None for the same
    """

    def tokens(size: ImageSize | None, detail: str) -> int:
        most = budget if detail == "high" else budget_at_auto or budget
        patches = most if size is None else min(most, _squares(size, 32))
        return _up(patches * thousandths, 1000)

    return tokens


def _claude_patches(most: int) -> ImageTokens:
    """Squares of 28 pixels, of which there are at most so many; by an earlier formula width x height / 750.

    Source: Anthropic, "Vision: evaluate image size", in both of its forms.
    """

    def tokens(size: ImageSize | None, detail: str) -> int:
        if size is None:
            return most
        return min(most, max(_squares(size, 28), _up(size.width * size.height, 750)))

    return tokens


CLAUDE: Final = _claude_patches(4784)
"""From Opus 4.7 on: up to 2,576 pixels on the long side."""
CLAUDE_BEFORE_4_7: Final = _claude_patches(1600)
"""Up to 1,568 pixels on the long side and 1,568 squares, or "about 1,600 tokens" in an earlier edition."""


def _gemini_tiles(size: ImageSize | None, detail: str) -> int:
    """Up to version 2.5: tiles of 258 tokens, cut by the short side, and one of the whole.

    Source: Google, "Understand and count tokens" and Vertex AI's "Image understanding"; the tile of the whole:
    googleapis/python-genai#1907, where 700 x 1003 pixels were billed 1,806 tokens, seven tiles, at Vertex.
    """
    if size is None:
        return MAX_IMAGE_TOKENS
    sizes = [size]
    if max(size) > 3072:  # larger ones are scaled down to that, by some accounts
        sizes.append(ImageSize(*(_up(side * 3072, max(size)) for side in size)))
    return min(MAX_IMAGE_TOKENS, 258 * (1 + max(map(_gemini_tile_count, sizes))))


def _gemini_tile_count(size: ImageSize) -> int:
    unit = min(max(min(size) * 2 // 3, 256), 768)
    return max(_squares(size, unit), _squares(size, 768))


def _gemini_budget(size: ImageSize | None, detail: str) -> int:
    """Gemini 3: as many tokens as the resolution allows, whatever the size.

    Source: Google, "Media resolution: token counts": 280, 560, 1,120 by default, 2,240 at ultra high. What `detail`
    stands for isn't documented, so that `high` is taken for the highest.
    """
    return 2240 if detail == "high" else 1120


def _squares(size: ImageSize, side: int) -> int:
    return _up(size.width, side) * _up(size.height, side)


def _up(number: int, divisor: int) -> int:
    """The quotient, rounded up."""
    return -(-number // divisor)


def _dearest(*ways: ImageTokens) -> ImageTokens:
    """The dearest of several ways, where it isn't sure which one a model has."""
    return lambda size, detail: max(way(size, detail) for way in ways)


_SMALL: Final = 2500
"""Patches of the newer small models: 1,536 by the documentation, and up to 2,500 were billed (the forum, as above)."""

_OPENAI: Final[Sequence[tuple[str, ImageTokens]]] = (
    (r"gpt-4o-mini", _tiles(2833, 5667)),
    (r"(?:chat)?gpt-4o|gpt-4-(?:turbo|vision)|gpt-4\.5", _tiles(85, 170)),
    (r"gpt-4\.1-mini", _patches(1620, 1536)),
    (r"gpt-4\.1-nano", _patches(2460, 1536)),
    # The documentation has tiles; calculators have had patches at one token each.
    (r"gpt-4\.1", _dearest(_tiles(85, 170), _patches(1000, 1536))),
    (r"o4-mini|codex-mini", _patches(1720, 1536)),
    (r"o[13](?!-mini)", _tiles(75, 150)),
    (r"computer-use", _tiles(65, 129)),
    (r"gpt-5-mini", _patches(1620, 1536)),
    (r"gpt-5-nano", _patches(2460, 1536)),
    (r"gpt-5\.\d-mini", _patches(1620, _SMALL)),
    (r"gpt-5\.\d-nano", _patches(2460, _SMALL)),
    (r"gpt-5(?:\.[0-3])?(?!\.?\d)", _dearest(_tiles(70, 140), _patches(1200, 1536))),
    (r"gpt-5\.4", _patches(1200, 2500, 10_000)),
    # From GPT-5.5 on `auto` is the image as it is, and a budget at `high` isn't known to be less.
    (r"gpt-5\.[5-9]|gpt-6(?:\.\d)?", _patches(1200, 10_000)),
)


def openai_image_tokens(model: str) -> ImageTokens:
    """:param model: its name at OpenAI, in small letters, whatever stands before it"""
    name = model.rpartition("/")[2].removeprefix("ft:").removeprefix("openai.")
    return next((way for names, way in _OPENAI if re.match(rf"(?:{names})(?![a-z0-9])", name)), any_image)


_GEMINI: Final = re.compile(r"gemini-(\d+)(?:[.-]|$)")


def gemini_image_tokens(model: str) -> ImageTokens:
    """Of version 4 and others that aren't documented: any image's."""
    found = _GEMINI.match(model.lower().removeprefix("google/"))
    version = int(found[1]) if found else 0
    return _gemini_tiles if version in (1, 2) else _gemini_budget if version == 3 else any_image
