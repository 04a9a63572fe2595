"""Earlier answers of POST /responses, where `AI_RESPONSES_RETENTION_HOURS` has them kept: from event to answer."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import psycopg
import pytest
from openai.types.responses import Response as OpenAIResponse
from pydantic import SecretStr

from fusewire.errors import LedgerUnavailableError
from fusewire.http.identity import Identity
from fusewire.store import kept_responses
from fusewire.store.db import Database
from fusewire.store.kept_responses import KeptResponses
from tests.conftest import as_app_role
from tests.integration.ai.observing import Books, LogLines, price_of
from tests.integration.functions.conftest import Functions, as_caller, sample
from tests.support.upstream import Upstream, cut_stream

KEY = "the-key-of-what-is-kept-0123456789"
SAID = "xyzzy plugh"
USER = {"type": "message", "role": "user", "content": SAID}
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
CHOSEN: dict[str, Any] = {"tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}}
_numbers = count(1)


@pytest.fixture(autouse=True)
def keeping(functions: Functions) -> None:
    functions.set(AI_RESPONSES_RETENTION_HOURS="24", AI_RESPONSES_KEY=KEY)


def event(method: str = "POST", body: object = None, id: str | None = None, key: str | None = None) -> dict[str, Any]:
    """A request with an id of its own, of the key that is named."""
    made = sample("complete_responses", body)
    context = made["requestContext"] | {"requestId": f"00000000-0000-4000-8000-{next(_numbers):012}"}
    made |= {"httpMethod": method, "requestContext": context}
    if id is not None:
        made |= {"resource": "/v1/responses/{id}", "path": f"/v1/responses/{id}", "pathParameters": {"id": id}}
        made["body"] = None
    return made if key is None else as_caller(Identity(key, frozenset({"complete"})), made)


def call(functions: Functions, *, key: str | None = None, header: str | None = None, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    made = event(body={"model": "sota", "input": SAID, **fields}, key=key)
    if header is not None:
        made["headers"] = made["headers"] | {"x-fusewire-classification": header}
    return functions("complete", made)


def done(answer: dict[str, Any]) -> dict[str, Any]:
    """The response object, of a stream the last one."""
    assert answer["statusCode"] == 200, answer["body"]
    if answer["headers"]["Content-Type"] == "application/json":
        found: dict[str, Any] = json.loads(answer["body"])
        return found
    last = json.loads(answer["body"].strip().split("\n")[-1].removeprefix("data: "))
    assert last["type"] == "response.completed"
    response: dict[str, Any] = last["response"]
    return response


def error(answer: dict[str, Any]) -> tuple[int, str, str | None]:
    found = json.loads(answer["body"])["error"]
    return answer["statusCode"], found["code"], found["param"]


def rows(database_url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT key_id, id, previous_id, sealed, expires_at FROM kept_response").fetchall()


def change(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(statement.encode())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_goes_on_from_the_one_before(functions: Functions, upstream: Upstream, streamed: bool) -> None:
    first = done(call(functions, stream=streamed, instructions="Be brief."))
    assert (first["store"], first["previous_response_id"]) == (True, None)
    second = done(call(functions, stream=streamed, input="And then?", previous_response_id=first["id"]))
    assert second["previous_response_id"] == first["id"]
    third = call(functions, stream=streamed, input=[USER], previous_response_id=second["id"])
    assert "x-fusewire-dropped" not in third["headers"]
    said = [(message["role"], message["content"]) for message in upstream.requests[-1]["messages"]]
    replied = first["output"][0]["content"][0]["text"]
    again = second["output"][0]["content"][0]["text"]
    # Instructions are the request's own, as at OpenAI.
    assert said == [
        ("user", SAID),
        ("assistant", replied),
        ("user", "And then?"),
        ("assistant", again),
        ("user", SAID),
    ]
    assert done(third)["store"] is True


def test_an_item_is_named_by_its_id(functions: Functions, upstream: Upstream) -> None:
    """The AI SDK's second turn, where nobody has told it that nothing is stored (vercel/ai#7543)."""
    called = done(call(functions, input=[USER], **CHOSEN))["output"][0]
    assert called["type"] == "function_call"
    items = [
        USER,
        {"type": "item_reference", "id": called["id"]},
        {"type": "function_call_output", "call_id": called["call_id"], "output": "sunny"},
    ]
    second = done(call(functions, input=items, tools=[TOOL]))
    _, assistant, result = upstream.requests[-1]["messages"]
    assert assistant["tool_calls"][0]["id"] == result["tool_call_id"]
    assert assistant["tool_calls"][0]["function"]["name"] == "weather"
    # And what was put together is kept as it was.
    items += [{"id": second["output"][0]["id"]}, USER]
    done(call(functions, input=items, tools=[TOOL]))
    assert [message["role"] for message in upstream.requests[-1]["messages"]] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    third = call(functions, input="Go on.", previous_response_id=second["id"], tools=[TOOL])
    assert third["statusCode"] == 200
    assert len(upstream.requests[-1]["messages"]) == 5


def test_the_earlier_conversation_is_reserved_and_billed(
    functions: Functions, upstream: Upstream, books: Books
) -> None:
    long = "x" * 5000
    first = done(call(functions, input=long))
    second = done(call(functions, input="y", previous_response_id=first["id"]))
    entry = books.entries()[-1]
    assert second["usage"]["input_tokens"] == len(long) + len("Paris.") + len("y")
    assert entry["cost"] == price_of("azure", len(long) + 7, 3)
    assert entry["cost"] <= entry["bound"]
    books.check()


def test_nothing_of_it_can_be_read_where_it_is_kept(
    functions: Functions, database_url: str, log: LogLines, upstream: Upstream
) -> None:
    first = done(call(functions, instructions=SAID, metadata={"a": SAID}))
    done(call(functions, previous_response_id=first["id"]))
    with psycopg.connect(database_url) as connection:
        names = [name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
        for name in names:
            for (row,) in connection.execute(f"SELECT t::text FROM {name} t".encode()):  # noqa: S608 - a table's name
                hidden = bytes.fromhex(row.partition("\\x")[2].split('"')[0]) if name == "kept_response" else b""
                assert SAID not in row
                assert SAID.encode() not in hidden
    assert SAID not in log.text
    assert len(rows(database_url)) == 2


def test_it_is_the_keys_that_made_it(functions: Functions, database_url: str, upstream: Upstream) -> None:
    first = done(call(functions, key="key_one"))
    id, item = first["id"], first["output"][0]["id"]
    for key in ("key_two", None):
        refused = call(functions, key=key, previous_response_id=id)
        assert error(refused) == (400, "previous_response_not_found", "previous_response_id")
        assert f"Previous response with id '{id}' not found." in refused["body"]
        refused = call(functions, key=key, input=[USER, {"type": "item_reference", "id": item}])
        assert error(refused) == (404, "response_not_found", "input[1]")
        assert f"Item with id '{item}' not found." in refused["body"]
        for method in ("GET", "DELETE"):
            refused = functions("complete", event(method, id=id, key=key))
            assert error(refused) == (404, "response_not_found", None)
    assert len(upstream.requests) == 1
    # Nor does it open where somebody moves it in the database.
    change(database_url, "UPDATE kept_response SET key_id = 'key_two'")
    assert error(call(functions, key="key_two", previous_response_id=id))[1] == "previous_response_not_found"
    change(database_url, "UPDATE kept_response SET key_id = 'key_one'")
    assert call(functions, key="key_one", previous_response_id=id)["statusCode"] == 200


def test_it_can_be_fetched_and_deleted(functions: Functions, database_url: str) -> None:
    first = done(call(functions))
    second = done(call(functions, previous_response_id=first["id"]))
    shown = functions("complete", event("GET", id=first["id"]))
    assert json.loads(shown["body"]) == first
    assert OpenAIResponse.model_validate_json(shown["body"]).output_text == "Paris."
    gone = functions("complete", event("DELETE", id=first["id"]))
    assert json.loads(gone["body"]) == {"id": first["id"], "object": "response.deleted", "deleted": True}
    assert error(functions("complete", event("DELETE", id=first["id"])))[0] == 404
    # What went on from it has lost its beginning, and isn't answered without.
    refused = call(functions, previous_response_id=second["id"])
    assert error(refused) == (400, "previous_response_not_found", "previous_response_id")
    assert first["id"] in refused["body"]
    # Deleting needs no setting any more.
    functions.set(AI_RESPONSES_RETENTION_HOURS="0")
    assert error(functions("complete", event("GET", id=second["id"])))[0] == 404
    assert functions("complete", event("DELETE", id=second["id"]))["statusCode"] == 200
    assert rows(database_url) == []


@pytest.mark.parametrize("streamed", [False, True])
def test_what_isnt_to_be_stored_isnt(functions: Functions, database_url: str, streamed: bool) -> None:
    first = done(call(functions, store=False, stream=streamed))
    assert (first["store"], rows(database_url)) == (False, [])
    assert error(call(functions, previous_response_id=first["id"]))[1] == "previous_response_not_found"


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_confidential_is_never_kept(
    functions: Functions, database_url: str, upstream: Upstream, streamed: bool
) -> None:
    functions.set(AI_MODE="hybrid", VLLM_BASE_URL=upstream.url, VLLM_MODEL="ours")
    answer = call(functions, header="confidential", store=True, stream=streamed, model="vllm/ours")
    assert (done(answer)["store"], answer["headers"]["x-fusewire-dropped"]) == (False, "store")
    assert rows(database_url) == []
    assert done(call(functions, header="public", stream=streamed))["store"] is True


def test_a_stream_that_breaks_leaves_nothing(functions: Functions, database_url: str, upstream: Upstream) -> None:
    upstream.script.append(cut_stream(2))
    assert "response.failed" in call(functions, stream=True)["body"]
    assert rows(database_url) == []


def test_it_ends_with_its_time(functions: Functions, database_url: str, upstream: Upstream) -> None:
    first = done(call(functions))
    [(_, _, _, _, expires_at)] = rows(database_url)
    with psycopg.connect(database_url) as connection:
        [(hours,)] = connection.execute("SELECT extract(epoch FROM %s - now()) / 3600", [expires_at]).fetchall()
    assert 23.9 < hours <= 24
    change(database_url, "UPDATE kept_response SET expires_at = clock_timestamp()")
    assert error(call(functions, previous_response_id=first["id"]))[1] == "previous_response_not_found"
    assert error(functions("complete", event("GET", id=first["id"])))[0] == 404
    assert error(functions("complete", event("DELETE", id=first["id"])))[0] == 404
    # The next one that is kept, and the budget API, delete what has expired.
    second = done(call(functions))
    assert [row[1] for row in rows(database_url)] == [second["id"]]
    change(database_url, "UPDATE kept_response SET expires_at = clock_timestamp()")
    assert functions("admin_budget", sample("admin_budget"))["statusCode"] == 200
    assert rows(database_url) == []


def test_by_default_nothing_is_kept_and_the_cure_is_named(functions: Functions, database_url: str) -> None:
    functions.set(AI_RESPONSES_RETENTION_HOURS="0")
    first = done(call(functions))
    assert (first["store"], rows(database_url)) == (False, [])
    refused = call(functions, previous_response_id=first["id"])
    assert error(refused) == (400, "unsupported_parameter", "previous_response_id")
    assert "store: false" in refused["body"] and "AI_RESPONSES_RETENTION_HOURS" in refused["body"]
    refused = call(functions, input=[USER, {"type": "item_reference", "id": "msg_1_0"}])
    assert error(refused) == (400, "unsupported_parameter", "input[1].type")


def test_another_key_of_the_settings_opens_nothing(functions: Functions) -> None:
    first = done(call(functions))
    functions.set(AI_RESPONSES_KEY=KEY[::-1])
    assert error(call(functions, previous_response_id=first["id"]))[1] == "previous_response_not_found"
    assert error(functions("complete", event("GET", id=first["id"])))[0] == 404


def test_a_conversation_has_a_size(functions: Functions, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> None:
    first = done(call(functions, input="x" * 4000))
    second = done(call(functions, previous_response_id=first["id"]))
    monkeypatch.setattr(kept_responses, "_MAX_BYTES", 5000)
    refused = call(functions, previous_response_id=second["id"])
    assert error(refused) == (413, "request_too_large", "previous_response_id")
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_cant_be_kept_is_an_answer(
    functions: Functions, monkeypatch: pytest.MonkeyPatch, log: LogLines, streamed: bool
) -> None:
    def unavailable(*_: object) -> None:
        raise LedgerUnavailableError("OperationalError")

    monkeypatch.setattr(KeptResponses, "keep", unavailable)
    assert done(call(functions, stream=streamed))["store"] is False
    assert len(log.events("responses.not_kept")) == 1


@pytest.mark.parametrize("item", ["msg", "msg_", "_", "rs_1", "x" * 300, "msg_\x00_1", "msg_é_1"])
def test_an_id_that_is_nobodys(functions: Functions, item: str) -> None:
    assert error(call(functions, input=[USER, {"type": "item_reference", "id": item}])) == (
        404,
        "response_not_found",
        "input[1]",
    )
    assert error(call(functions, previous_response_id=item))[1] == "previous_response_not_found"


@pytest.fixture
def databases(database_url: str) -> Iterator[list[Database]]:
    made = [Database(SecretStr(as_app_role(database_url))) for _ in range(4)]
    yield made
    for each in made:
        each.close()


def test_many_sessions_keep_and_delete_at_once(databases: list[Database], database_url: str) -> None:
    """Each takes away what has expired, none waits for another, and what hasn't expired stays."""
    stores = [KeptResponses(database, 1, lambda: SecretStr(KEY)) for database in databases]
    for number in range(200):
        stores[0].keep("key", f"resp_old{number}", None, {"n": number})
    change(database_url, "UPDATE kept_response SET expires_at = clock_timestamp()")

    def work(mine: int) -> None:
        for number in range(25):
            stores[mine].keep("key", f"resp_{mine}_{number}", None, {"n": number})

    with ThreadPoolExecutor(len(stores)) as pool:
        list(pool.map(work, range(len(stores))))
    assert {row[1] for row in rows(database_url)} == {f"resp_{m}_{n}" for m in range(4) for n in range(25)}


def test_a_statement_that_is_sent_twice_keeps_once(databases: list[Database], database_url: str) -> None:
    store = KeptResponses(databases[0], 1, lambda: SecretStr(KEY))
    for text in ("first", "second"):
        store.keep("key", "resp_1", None, {"text": text})
    [found] = store.read("key", last="resp_1")[0]
    assert found.content == {"text": "first"}
    assert len(rows(database_url)) == 1
