"""What may be answered on any route before a function sees the request, by API Gateway or `make run` in its place."""

from typing import Any, Final

_ON_EVERY_ROUTE: Final = {
    "400": "The request can't be understood; `param` names the field, where it is one.",
    "431": "The request line and the headers hold more than 10,240 bytes.",
}
_WITH_A_BODY: Final = {
    "408": "The request didn't arrive whole in time.",
    "413": "The body is too large.",
}
_OWN: Final = ("400", "408", "413", "431", "502", "503", "504")


def screen(paths: dict[str, Any], error: dict[str, Any], anthropics: dict[str, Any]) -> None:
    """Add to every route what is answered there instead of a function.

    :param error: the schema of an error; `anthropics` of one in Anthropic's format
    """
    for path, item in paths.items():
        for operation in item.values():
            told = _ON_EVERY_ROUTE | (_WITH_A_BODY if "requestBody" in operation else {})
            for status, description in told.items():
                operation["responses"].setdefault(status, {"description": description, "content": _content(error)})
            if path == "/api/v1/messages":
                # The function tells errors as Anthropic does; what is in front of it knows one format.
                for status in _OWN:
                    operation["responses"][status]["content"] = _content({"anyOf": [anthropics, error]})


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
