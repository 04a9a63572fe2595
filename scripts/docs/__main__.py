"""`make docs`: write what is made from providers and routes into the documents, the template and the samples."""

import sys

from scripts.docs.documents import made


def main() -> None:
    for file, text in made().items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            sys.stdout.write(f"written: {file.name}\n")


if __name__ == "__main__":
    main()
