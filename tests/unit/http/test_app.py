"""API Gateway's events in, its answers out, whatever happens in between."""

import base64
import json
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from aws_lambda_powertools.event_handler import Response
from pydantic import BaseModel, ConfigDict

from fusewire import logs
from fusewire.config import load_settings
from fusewire.errors import BudgetReservedError, LedgerUnavailableError
from fusewire.http.admin.budget import ResetRequest
from fusewire.http.admin.keys import KeysQuery
from fusewire.http.app import Resolver, StreamingResponse, json_response, stream_response
from fusewire.http.health import Health
from fusewire.http.invocation import LambdaContext, request_id_of
from fusewire.http.request import Request
from fusewire.http.route import Route

SECRET = "sentinel-content-55c1"  # noqa: S105 - what must not leak


class Context:
    aws_request_id = "lambda-1"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


class StreamingContext(Context):
    streams = True


class RequestModel(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = ""


def route(method: Literal["GET", "POST"], path: str, **fields: Any) -> Route:  # noqa: ANN401 - of a route
    return Route(method, path, "anything", "A route.", "any_key", response="http.schema:AnyObject", **fields)


def resolver(**variables: str) -> Resolver:
    app = Resolver(load_settings({"AUTH_MODE": "open", **variables}))

    @app.handles(route("POST", "/api/v1/echo"))
    def echo(request: Request) -> Response[Any]:
        return json_response(200, {"text": request.body(RequestModel).text}, {"x-thing": "1"})

    @app.handles(route("POST", "/api/v1/optional"))
    def optional(request: Request) -> Response[Any]:
        return json_response(200, {"text": request.body(RequestModel, empty=True).text})

    @app.handles(route("GET", "/api/v1/who"))
    def who(request: Request) -> Response[Any]:
        source_ip = request.audit_context.source_ip
        return json_response(200, {"ip": source_ip, "id": request.id, "header": request.header("X-Odd-Case")})

    @app.handles(route("POST", "/api/v1/reset", body="http.admin.budget:ResetRequest", empty_body=True, status=201))
    def reset(request: Request, body: ResetRequest) -> Health:
        return Health(version=str(body.reason))

    @app.handles(route("GET", "/api/v1/keys/{id}", query="http.admin.keys:KeysQuery"))
    def keys(request: Request, id: str, query: KeysQuery) -> Health:
        return Health(version=f"{id} {query.limit}")

    @app.handles(route("GET", "/api/v1/stream"))
    def stream(request: Request) -> Response[Any]:
        return stream_response(iter([b"data: a\n\n", "data: \N{SNOWMAN}\n\n".encode()]), {"x-thing": "1"})

    add_failing(app)
    return app


def add_failing(app: Resolver) -> None:
    @app.handles(route("GET", "/api/v1/bug"))
    def bug(request: Request) -> Response[Any]:
        raise ZeroDivisionError(SECRET)

    @app.handles(route("GET", "/api/v1/busy"))
    def busy(request: Request) -> Response[Any]:
        raise BudgetReservedError("busy")

    @app.handles(route("GET", "/api/v1/claude", render_error="http.messages.errors:render_error"))
    def claude(request: Request) -> Response[Any]:
        raise BudgetReservedError("busy")

    @app.handles(route("GET", "/api/v1/ledger"))
    def ledger(request: Request) -> Response[Any]:
        raise LedgerUnavailableError("OperationalError")


def event(method: str = "GET", path: str = "/api/v1/who", **fields: object) -> dict[str, Any]:
    made: dict[str, Any] = {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": None,
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"requestId": "gateway-1", "identity": {"sourceIp": "192.0.2.7"}},
        "body": None,
        "isBase64Encoded": False,
    }
    return made | fields


def call(app: Resolver, asked: dict[str, Any], context: LambdaContext | None = None) -> dict[str, Any]:
    answer = app.serve(asked, context or Context())
    assert isinstance(answer, dict)
    return answer


def echo(body: object, **fields: object) -> tuple[int, Any]:
    answer = call(resolver(), event("POST", "/api/v1/echo", body=body, **fields))
    return answer["statusCode"], json.loads(answer["body"])


def test_a_body_comes_as_text_or_base64() -> None:
    assert echo('{"text": "ö"}') == (200, {"text": "ö"})
    coded = base64.b64encode('{"text": "ö"}'.encode()).decode()
    assert echo(coded, isBase64Encoded=True) == (200, {"text": "ö"})


@pytest.mark.parametrize("body", ["no base64!", "abc", "é", base64.b64encode(b'"\xff"').decode()])
def test_a_body_that_cannot_be_decoded_is_the_callers_mistake(body: str) -> None:
    status, result = echo(body, isBase64Encoded=True)
    assert (status, result["error"]["code"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [None, "", "   ", "{", "[]", "null", '{"text": "\ud800"}', '{"text": "\\ud800"}'])
def test_a_body_that_is_no_object_is_the_callers_mistake(body: str | None) -> None:
    status, result = echo(body)
    assert (status, result["error"]["type"]) == (400, "invalid_request_error")


def test_an_absent_body_may_stand_for_something() -> None:
    for body in (None, ""):
        assert call(resolver(), event("POST", "/api/v1/optional", body=body))["statusCode"] == 200


@pytest.mark.parametrize("character", ["x", "é", "\N{SNOWMAN}"])
def test_a_bodys_size_is_counted_in_bytes(character: str) -> None:
    room = 6_000_000 - len('{"text": ""}')
    most = room // len(character.encode())
    status, _ = echo(json.dumps({"text": character * most}, ensure_ascii=False))
    assert status == 200
    status, result = echo(json.dumps({"text": character * (most + 1)}, ensure_ascii=False))
    assert (status, result["error"]["code"]) == (413, "request_too_large")


def test_a_base64_bodys_size_is_what_it_holds() -> None:
    text = json.dumps({"text": "x" * 5_000_000})
    assert echo(base64.b64encode(text.encode()).decode(), isBase64Encoded=True)[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nothing"),
        ("GET", "/"),
        ("DELETE", "/api/v1/who"),
        ("GET", "/api/v1/echo"),
        ("BREW", "/api/v1/who"),
    ],
)
def test_an_unknown_route_or_method_is_a_404_in_openais_words(method: str, path: str) -> None:
    answer = call(resolver(), event(method, path))
    assert answer["statusCode"] == 404
    body = json.loads(answer["body"])["error"]
    assert set(body) == {"message", "type", "code", "param"}
    assert body["code"] == "route_not_found"
    assert answer["headers"]["x-should-retry"] == "false"
    assert answer["headers"]["x-request-id"] == "gateway-1"


def test_every_answer_has_single_headers_and_the_request_id() -> None:
    answer = call(resolver(), event("POST", "/api/v1/echo", body="{}"))
    assert answer["headers"]["x-request-id"] == "gateway-1"
    assert answer["headers"]["x-thing"] == "1"
    assert answer["headers"]["Content-Type"] == "application/json"
    assert answer["multiValueHeaders"] == {}
    assert all(isinstance(value, str) for value in answer["headers"].values())


def test_who_asks_is_read_from_the_event() -> None:
    body = json.loads(call(resolver(), event(headers={"x-odd-CASE": "yes"}))["body"])
    assert body == {"ip": "192.0.2.7", "id": "gateway-1", "header": "yes"}


@pytest.mark.parametrize("gap", ["headers", "requestContext", "multiValueHeaders", "queryStringParameters"])
def test_an_event_with_gaps_is_served(gap: str) -> None:
    assert call(resolver(), event() | {gap: None})["statusCode"] == 200
    without = event()
    del without[gap]
    assert call(resolver(), without)["statusCode"] == 200


def test_the_request_id_falls_back_to_lambdas_and_then_to_a_new_one() -> None:
    assert request_id_of({"requestContext": {"requestId": "g"}}, Context()) == "g"
    assert request_id_of({"source": "aws.scheduler"}, Context()) == "lambda-1"

    class Bare(Context):
        aws_request_id = ""

    assert len(request_id_of({}, Bare())) == 36


def test_a_handler_gets_the_models_of_its_route_and_answers_with_one() -> None:
    answer = call(resolver(), event("POST", "/api/v1/reset", body='{"reason": "x"}'))
    assert (answer["statusCode"], json.loads(answer["body"])["version"]) == (201, "x")
    assert call(resolver(), event("POST", "/api/v1/reset"))["statusCode"] == 201
    assert call(resolver(), event("POST", "/api/v1/reset", body='{"why": "x"}'))["statusCode"] == 400
    answer = call(resolver(), event("GET", "/api/v1/keys/key_1", queryStringParameters={"limit": "7"}))
    assert json.loads(answer["body"])["version"] == "key_1 7"
    asked = event("GET", "/api/v1/keys/key_1", queryStringParameters={"many": "7"})
    assert json.loads(call(resolver(), asked)["body"])["error"]["param"] == "many"


def test_an_error_has_the_format_of_its_route_and_no_others() -> None:
    app = resolver()
    for path, field in (("/api/v1/claude", "request_id"), ("/api/v1/busy", "error"), ("/api/v1/claude", "request_id")):
        answer = call(app, event("GET", path))
        assert (answer["statusCode"], list(json.loads(answer["body"]))[-1]) == (429, field)
        assert ("request-id" in answer["headers"]) is (path == "/api/v1/claude")


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """What is logged, read when the test looks."""
    import io

    handler = logs.logger.registered_handler
    assert hasattr(handler, "setStream")
    buffer = io.StringIO()
    before = handler.setStream(buffer)

    class Lines(list[dict[str, Any]]):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            return iter([json.loads(line) for line in buffer.getvalue().splitlines()])

    yield Lines()
    handler.setStream(before)


def test_a_bug_is_a_500_whose_text_stays_inside(lines: list[dict[str, Any]]) -> None:
    answer = call(resolver(LOG_LEVEL="DEBUG"), event(path="/api/v1/bug"))
    assert answer["statusCode"] == 500
    assert json.loads(answer["body"])["error"]["code"] == "internal_error"
    assert "x-should-retry" not in answer["headers"]
    (line,) = lines
    assert (line["event"], line["error_type"], line["request_id"]) == (
        "function.error",
        "ZeroDivisionError",
        "gateway-1",
    )
    assert "test_app.py" in line["location"]
    assert SECRET not in answer["body"] + json.dumps(line)


def test_an_error_of_the_tree_is_told_as_it_is() -> None:
    answer = call(resolver(), event(path="/api/v1/busy"))
    assert (answer["statusCode"], answer["headers"]["Retry-After"]) == (429, "1")
    assert answer["headers"]["x-should-retry"] == "true"


def test_an_unreachable_ledger_is_logged_once(lines: list[dict[str, Any]]) -> None:
    assert call(resolver(), event(path="/api/v1/ledger"))["statusCode"] == 503
    assert [line["event"] for line in lines] == ["ledger.unavailable"]


@pytest.mark.parametrize("origin", ["https://app.example", "https://other.example"])
@pytest.mark.parametrize("path", ["/api/v1/who", "/api/v1/nothing", "/api/v1/bug", "/api/v1/busy", "/api/v1/stream"])
def test_an_allowed_origin_may_read_every_answer_and_its_headers(origin: str, path: str) -> None:
    app = resolver(CORS_ORIGINS="https://app.example, https://other.example")
    headers = call(app, event(path=path, headers={"Origin": origin}))["headers"]
    assert headers["Access-Control-Allow-Origin"] == origin
    exposed = headers["Access-Control-Expose-Headers"].lower().split(",")
    assert {"x-request-id", "x-fusewire-cost-usd", "retry-after"} <= {name.strip() for name in exposed}


@pytest.mark.parametrize("variables", [{}, {"CORS_ORIGINS": "https://app.example"}])
def test_a_strange_origin_gets_no_permission(variables: dict[str, str]) -> None:
    headers = call(resolver(**variables), event(headers={"Origin": "https://evil.example"}))["headers"]
    assert "Access-Control-Allow-Origin" not in headers


def test_a_preflight_is_answered() -> None:
    app = resolver(CORS_ORIGINS="https://app.example")
    answer = call(app, event("OPTIONS", "/api/v1/echo", headers={"Origin": "https://app.example"}))
    assert answer["statusCode"] == 204
    assert "POST" in answer["headers"]["Access-Control-Allow-Methods"]
    allowed = answer["headers"]["Access-Control-Allow-Headers"].lower()
    assert all(name in allowed for name in ("content-type", "authorization", "x-fusewire-classification"))


def test_a_stream_is_handed_on_or_collected() -> None:
    app = resolver()
    streamed = app.serve(event(path="/api/v1/stream"), StreamingContext())
    assert isinstance(streamed, StreamingResponse)
    assert streamed.status == 200
    assert streamed.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert streamed.headers["x-request-id"] == "gateway-1"
    assert streamed.headers["x-thing"] == "1"
    assert b"".join(streamed.chunks).decode() == "data: a\n\ndata: \N{SNOWMAN}\n\n"
    collected = call(app, event(path="/api/v1/stream"))
    assert collected["body"] == "data: a\n\ndata: \N{SNOWMAN}\n\n"
    assert collected["isBase64Encoded"] is False


def test_one_calls_stream_does_not_reach_the_next() -> None:
    app = resolver()
    app.serve(event(path="/api/v1/stream"), StreamingContext())
    assert call(app, event(), StreamingContext())["statusCode"] == 200
