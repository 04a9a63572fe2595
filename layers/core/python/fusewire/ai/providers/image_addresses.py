"""Which address of an image is passed on to a vendor's own server, which fetches it from the vendor's network.

One rule for every vendor: https, a public host name, no password, which would travel. A name's top level is a word:
addresses in digits are nobody's public host, and may be link-local (a cloud's metadata is at 169.254.169.254). `file:`
would be read where it is opened.
"""

import re
from typing import Final

_ADDRESS: Final = re.compile(r"https://(?:[a-z0-9-]+\.)+([a-z]{2,})(?::\d+)?(?:[/?#]\S*)?", re.IGNORECASE)
_NOT_PUBLIC: Final = frozenset({"arpa", "corp", "home", "internal", "lan", "local", "localdomain", "localhost"})
"""Names of private networks: RFC 6761, RFC 6762, RFC 8375 and ICANN's `internal`."""


def is_public_address(url: str) -> bool:
    """Whether the URL names a public host over https."""
    found = _ADDRESS.fullmatch(url)
    return found is not None and found[1].lower() not in _NOT_PUBLIC
