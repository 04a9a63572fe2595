"""`make console-screenshots`: the console's pictures of docs/console.md, made anew from a company of its own."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from fusewire.store.migrate import migrate
from local.postgres_server import PostgresServer
from tests.console.company import company
from tests.support.gateway import PROJECT
from tests.support.guarded import ADMIN

_NODE: Final = PROJECT / ".venv-console" / "node" / "bin" / "node"
_PICTURES: Final = PROJECT / "docs" / "pictures"
_FONTS: Final = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <include ignore_missing="yes">/etc/fonts/fonts.conf</include>
  <match target="pattern"><test name="family" qual="any"><string>sans-serif</string></test>
    <edit name="family" mode="prepend" binding="strong"><string>Inter</string><string>Noto Sans CJK JP</string></edit>
  </match>
</fontconfig>
"""
"""What a desktop's own font would be: Debian's fonts-inter and fonts-noto-cjk, where they are installed."""


def main() -> int:
    """:return: the exit status"""
    parser = argparse.ArgumentParser(prog="python -m tests.console.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=_PICTURES, help="a folder")
    parser.add_argument("--all", action="store_true", help="both themes and both widths, to look at; not for the page")
    parser.add_argument("--wait", action="store_true", help="serve the company and say how to sign in; no pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fw-console-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        home.chmod(0o711)
        server = PostgresServer(home / "postgres")
        server.start()
        try:
            migrate(server.uri)
            with company(home, server.uri) as found:
                base = f"http://127.0.0.1:{found.gateway.port}/"
                if options.wait:
                    keys = {each: key["key"] for each, key in found.keys.items()}
                    sys.stdout.write(f"{base}\n{ADMIN}\n{keys}\n{found.failed}\n")
                    sys.stdout.flush()
                    sys.stdin.read()
                    return 0
                options.out.mkdir(parents=True, exist_ok=True)
                (home / "fonts.conf").write_text(_FONTS, encoding="utf-8")
                return subprocess.run(  # noqa: S603 - Node.js, in its environment
                    [str(_NODE), "screenshots.ts"],
                    cwd=PROJECT / "tests" / "console",
                    env={each: os.environ[each] for each in ("PATH", "HOME", "TMPDIR") if each in os.environ}
                    | {
                        "FONTCONFIG_FILE": str(home / "fonts.conf"),
                        "CONSOLE_URL": base,
                        "CONSOLE_ADMIN": ADMIN,
                        "CONSOLE_READ": found.keys["finance"]["key"],
                        "CONSOLE_PLAIN": found.keys["code-review"]["key"],
                        "CONSOLE_BOUND": found.keys["engineering-lead"]["key"],
                        "CONSOLE_FAILED": found.failed,
                        "CONSOLE_KEY": found.keys["search-prod"]["id"],
                        "CONSOLE_OUT": str(options.out.absolute()),
                        "CONSOLE_ALL": "1" if options.all else "",
                    },
                    check=False,
                ).returncode
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
