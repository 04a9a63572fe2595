"""`make docs`: write what is made from the providers into the documents and the template."""

import sys

from scripts.provider_docs.documents import made


def main() -> None:
    for file, text in made().items():
        if file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"written: {file.name}\n")


if __name__ == "__main__":
    main()
