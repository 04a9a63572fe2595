"""What a browser is told of the console's files, whoever serves them: `make run`, or CloudFront after `make deploy`.

Standard library only: a deployment has nothing of the product's.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Final

_POLICY: Final = Path(__file__).resolve().parent.parent / "console" / "policy.json"
"""The build and Terraform read it too."""
INDEX: Final = "index.html"
KINDS: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The files that are served, by suffix, as `Content-Type`."""
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
"""For files whose names change with what is in them."""


def policy(api: str = "") -> str:
    """The `Content-Security-Policy`.

    :param api: the API's origin, where it isn't the page's own
    """
    parts: list[str] = json.loads(_POLICY.read_text(encoding="utf-8"))
    return "; ".join(f"{part} {api}" if api and part.startswith("connect-src ") else part for part in parts)


def kept(name: str) -> str:
    """The `Cache-Control` of a file.

    :param name: its path below the build's folder, such as `assets/index-abc.js`
    """
    return _FOR_GOOD if PurePosixPath(name).parent.name == "assets" else "no-cache"
