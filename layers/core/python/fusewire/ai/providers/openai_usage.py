"""The token counts of OpenAI's protocol, as far as they were told and can be.

Sources: OpenAI's API reference, "Chat completions" and "Embeddings"; the servers' differences from public reports,
each a case of tests/integration/ai/envelopes.py.
"""

from collections.abc import Mapping
from typing import Any, Final

from fusewire.ai.providers.json_values import MAX_COUNT, fields, token_count
from fusewire.ai.schema import Usage


def usage_of(usage: object, *, has_content: bool) -> Usage | None:
    """The counts that were told and can be; None where there are none.

    Output is what the total says, where that is more: xAI and Vertex count reasoning beside `completion_tokens`.

    :param has_content: an answer that has some used a token of each kind, so that a 0 is no count
    """
    counts = fields(usage)
    least = 1 if has_content else 0
    prompt = _at_least(least, counts.get("prompt_tokens"))
    into, out = fields(counts.get("prompt_tokens_details")), fields(counts.get("completion_tokens_details"))
    reasoning = token_count(out.get("reasoning_tokens"))
    output = _output(prompt, counts, reasoning)
    if output is not None and output < least:
        output = None
    counted: dict[str, Any] = {}
    if prompt is not None:
        counted["prompt_tokens"] = prompt
    if output is not None:
        counted["completion_tokens"] = output
    if not counted:
        return None
    if prompt is not None and output is not None:
        counted["total_tokens"] = min(prompt + output, MAX_COUNT)
    within = {name: n for name in _PROMPT_DETAILS if (n := token_count(into.get(name))) is not None}
    if within:
        counted["prompt_tokens_details"] = within
    if reasoning is not None:
        counted["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    return Usage.model_validate(counted)


_PROMPT_DETAILS: Final = ("cached_tokens", "cache_write_tokens", "cache_write_1h_tokens")


def _at_least(least: int, value: object) -> int | None:
    tokens = token_count(value)
    return tokens if tokens is not None and tokens >= least else None


def _output(prompt: int | None, counts: Mapping[str, Any], reasoning: int | None) -> int | None:
    """The total tells what the completion leaves out. Where it doesn't, reasoning that can't be within the completion,
    or that nobody can tell to be, is beside it: so the output is never too small."""
    output, total = token_count(counts.get("completion_tokens")), token_count(counts.get("total_tokens"))
    if prompt is not None and total is not None and total - prompt > (-1 if output is None else output):
        return total - prompt
    if output is not None and reasoning is not None and (prompt is None or reasoning > output):
        return token_count(output + reasoning)
    return output


def embedding_usage(counts: Mapping[str, Any]) -> Usage | None:
    """An embedding has no output: the total is the input."""
    tokens = _at_least(1, counts.get("prompt_tokens")) or _at_least(1, counts.get("total_tokens"))
    return None if tokens is None else Usage(prompt_tokens=tokens, total_tokens=tokens)
