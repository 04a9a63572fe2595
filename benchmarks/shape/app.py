"""The function: reserve, ask, pass on what was answered, and settle."""

import json
import os
from typing import Any

import httpx2
import openai
import psycopg

from benchmarks.shape import ENTRY
from fusewire.ai.providers.http_client import http_client
from fusewire.ids import time_ordered_id
from fusewire.runtime.context import Context

_reserve, _end = os.environ["SHAPE_RESERVE"], os.environ["SHAPE_END"]
_vendor = openai.OpenAI(max_retries=0, http_client=http_client())  # address and credential are in the environment
_ledger = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True).pgconn


def handler(event: dict[str, Any], context: Context) -> dict[str, Any]:
    if event["httpMethod"] == "GET":
        return {"statusCode": 200}
    entry = str(time_ordered_id())
    _book(b"SELECT ledger_reserve($1::jsonb)", _reserve, entry)
    response = _vendor.post("/chat/completions", body=json.loads(event["body"]), cast_to=httpx2.Response)
    context.after_response.append(lambda: _book(b"SELECT ledger_settle($1::jsonb)", _end, entry))
    return {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": response.text}


def _book(statement: bytes, argument: str, entry: str) -> None:
    result = _ledger.exec_params(statement, [argument.replace(ENTRY, entry).encode()])
    if result.status != psycopg.pq.ExecStatus.TUPLES_OK:
        raise RuntimeError(result.get_error_message())
