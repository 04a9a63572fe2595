"""The events of infra/template.yaml by which API Gateway calls the functions, made from the routes.

An event's name is part of the logical id of its permission. So an event that is there keeps its name, and a new one is
named after its route's operation. Schedules, and the paths that are no route's, stay as they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fusewire.http.paths import OTHER_PATHS
from fusewire.http.route import Route

_FUNCTION: Final = re.compile(r"^  \w+:\n    Type: AWS::Serverless::Function\n(?:    .*\n)+", re.MULTILINE)
_FOLDER: Final = re.compile(r"^      CodeUri: \.\./functions/(\w+)$", re.MULTILINE)
_TIMEOUT: Final = re.compile(r"^      Timeout: (\d+)$", re.MULTILINE)
_EVENTS: Final = re.compile(r"^      Events:\n(?:        .*\n)+", re.MULTILINE)
_EVENT: Final = re.compile(r"^        (?P<name>\w+):.*\n(?:          .*\n)+", re.MULTILINE)
_API: Final = re.compile(r"^            Method: (?P<method>\w+)\n            Path: (?P<path>.+)$", re.MULTILINE)
_STREAM: Final = "text/event-stream"


class _Event(NamedTuple):
    name: str
    text: str
    at: tuple[str, str] | None
    """Method and path; None for what isn't the event of a route."""


def with_events(template: str, handled: Mapping[str, Sequence[Route]]) -> str:
    """The template with the events of each function's routes.

    :param handled: the routes of each function, by its folder's name
    :raises ValueError: where two events would have one name, or a function streams without a `Timeout` of its own
    """
    return _FUNCTION.sub(lambda found: _function(found[0], handled), template)


def _function(text: str, handled: Mapping[str, Sequence[Route]]) -> str:
    folder = _FOLDER.search(text)
    if folder is None:
        return text
    found = _EVENTS.search(text)
    old = [_read(each) for each in _EVENT.finditer(found[0])] if found else []
    names = {event.at: event.name for event in old if event.at}
    timeout = _stream_timeout(text, folder[1], handled.get(folder[1], ()))
    new = [
        _made(names.get((route.method, path)) or _new_name(route, path), route, path, timeout)
        for route in handled.get(folder[1], ())
        for path in route.paths
    ]
    new += [event for event in old if not event.at]
    if len({event.name for event in new}) < len(new):
        raise ValueError(f"Two events of functions/{folder[1]} have one name: {sorted(event.name for event in new)}")
    events = "".join(("      Events:\n", *(event.text for event in new))) if new else ""
    return f"{text[: found.start()]}{events}{text[found.end() :]}" if found else text + events


def _read(found: re.Match[str]) -> _Event:
    api = _API.search(found[0])
    of_route = api is not None and api["path"] not in OTHER_PATHS
    return _Event(found["name"], found[0], (api["method"], api["path"]) if api and of_route else None)


def _stream_timeout(text: str, folder: str, routes: Sequence[Route]) -> int | None:
    """Milliseconds that an answer may take, where a function streams: then all of its answers go through the stream."""
    if not any(route.also == _STREAM for route in routes):
        return None
    timeout = _TIMEOUT.search(text)
    if timeout is None:
        raise ValueError(f"functions/{folder} streams: infra/template.yaml has to set its Timeout")
    return int(timeout[1]) * 1_000


def _new_name(route: Route, path: str) -> str:
    name = route.operation_id[:1].upper() + route.operation_id[1:]
    return name if path == route.path else f"{name}AtV1"


def _made(name: str, route: Route, path: str, timeout: int | None) -> _Event:
    return _Event(name, "".join(f"{line}\n" for line in _lines(name, route, path, timeout)), (route.method, path))


def _lines(name: str, route: Route, path: str, timeout: int | None) -> Iterator[str]:
    yield f"        {name}:"
    yield "          Type: Api"
    yield "          Properties:"
    yield "            RestApiId: !Ref Api"
    yield f"            Method: {route.method}"
    yield f"            Path: {path}"
    if route.access == "everybody":
        yield "            Auth: {Authorizer: NONE}"
    if timeout is not None:
        yield "            ResponseTransferMode: RESPONSE_STREAM"
        yield f"            TimeoutInMillis: {timeout}"
