"""Documents of Anthropic's Messages format, as parts of a `ChatRequest`.

A text is text. A PDF whose pages can be counted is a file, which goes to those who take files; where nobody does, see
`fusewire.ai.relaxing`. What can't be bounded (a PDF at an address or in Anthropic's store, one that is encrypted) is
refused where the user has just sent it. In a tool's result and in earlier turns a note stands for it, so that a
conversation that holds one goes on.
"""

from collections.abc import Iterator, Sequence

from fusewire.ai.bounds import MAX_PAGES
from fusewire.ai.pdf import max_pages
from fusewire.ai.schema import CacheControl, ContentPart, FileData, FilePart, ImagePart, ImageUrl, TextPart
from fusewire.errors import UnsupportedParameterError
from fusewire.http.messages.content import (
    ContentSource,
    DocumentBlock,
    FileSource,
    ImageBlock,
    PdfSource,
    PlainTextSource,
    SearchResultBlock,
    TextBlock,
    UrlSource,
)

DROPPED = "messages.document"
"""What a caller is told of a document for which a note stands."""


def parts_of(
    blocks: Sequence[TextBlock | ImageBlock | DocumentBlock | SearchResultBlock],
    *,
    fresh: str | None,
    dropped: list[str],
) -> Iterator[ContentPart]:
    """The parts of a user's message.

    :param fresh: the field, where the user has just sent them; None in a tool's result, and in earlier turns
    :param dropped: to which is added what a note stands for
    :raises UnsupportedParameterError: for what can't be honoured, where it is fresh
    """
    for block in blocks:
        if isinstance(block, TextBlock):
            yield _text(block.text, block.cache_control)
        elif isinstance(block, ImageBlock):
            yield _image(block)
        elif isinstance(block, SearchResultBlock):
            said = "\n".join(each.text for each in block.content)
            yield _text(f"{block.title}\n{block.source}\n\n{said}", block.cache_control)
        else:
            yield from _document(block, fresh, dropped)


def _text(text: str, mark: CacheControl | None) -> TextPart:
    return TextPart(type="text", text=text, cache_control=mark)


def _image(block: ImageBlock) -> ImagePart:
    source = block.source
    url = source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}"
    return ImagePart(type="image_url", image_url=ImageUrl(url=url), cache_control=block.cache_control)


def _document(block: DocumentBlock, fresh: str | None, dropped: list[str]) -> Iterator[ContentPart]:
    source, mark = block.source, block.cache_control
    heading = "\n".join(filter(None, (block.title, block.context)))
    if isinstance(source, PlainTextSource):
        yield _text("\n\n".join(filter(None, (heading, source.data))), mark)
    elif isinstance(source, ContentSource):
        within = source.content
        inner = [TextBlock(type="text", text=within)] if isinstance(within, str) else within
        if heading:
            yield _text(heading, None)
        parts = list(parts_of(inner, fresh=fresh, dropped=dropped))
        if parts and mark is not None:
            parts[-1] = parts[-1].model_copy(update={"cache_control": mark})
        yield from parts
    elif problem := _problem(source):
        if fresh is not None:
            raise UnsupportedParameterError(
                f"{fresh}: this document can't be used, because {problem}. Send its text, or the PDF itself in base64.",
                param=fresh,
            )
        dropped.append(DROPPED)
        yield _text(f"(A document was here that can't be shown: {problem}. Its text can be.)", mark)
    elif isinstance(source, PdfSource):
        if block.context:
            yield _text(block.context, None)
        data = FileData(file_data=f"data:application/pdf;base64,{source.data}", filename=block.title)
        yield FilePart(type="file", file=data, cache_control=mark)


def _problem(source: PdfSource | UrlSource | FileSource) -> str | None:
    """Why what it would cost has no bound; None where it has one."""
    if isinstance(source, UrlSource):
        return "what is at an address isn't fetched here"
    if isinstance(source, FileSource):
        return "it lives at Anthropic"
    pages = max_pages(source.data)
    if pages is None:
        return "its pages can't be counted: it is encrypted, broken, or no PDF"
    return f"it has {pages} pages, and {MAX_PAGES} are the most" if pages > MAX_PAGES else None
