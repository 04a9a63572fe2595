"""Several calls of one attempt: vectors in order, tokens added up, and no release once one of them was served."""

import base64
import struct
from collections.abc import Sequence

import pytest

from fusewire.ai.failures import FailureKind, ProviderFailure, Settle
from fusewire.ai.providers.embedding_batches import Vectors, embed_in_batches, texts
from fusewire.ai.schema import EmbeddingRequest, EmbeddingResponse


class Vendor:
    """Answers each text with its length; fails in the call that it is told to."""

    def __init__(self, fail: dict[int, Vectors | ProviderFailure] | None = None) -> None:
        self.calls: list[list[str]] = []
        self._fail = fail or {}

    def __call__(self, batch: Sequence[str]) -> Vectors:
        self.calls.append(list(batch))
        response = self._fail.get(len(self.calls))
        if isinstance(response, ProviderFailure):
            raise response
        return response or Vectors([[float(len(text))] for text in batch], sum(map(len, batch)))


def asked(*inputs: str, encoding_format: str | None = None) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"model": "m", "input": list(inputs), "encoding_format": encoding_format})


def embed(vendor: Vendor, request: EmbeddingRequest, size: int = 2, max_bytes: int = 10**9) -> EmbeddingResponse:
    return embed_in_batches("aws", request, "a-model", size, vendor, max_bytes=max_bytes)


def test_vectors_stay_in_the_inputs_order_and_tokens_add_up() -> None:
    vendor = Vendor()
    response = embed(vendor, asked("a", "bb", "ccc", "dddd", "eeeee"))
    assert vendor.calls == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    assert [(item.index, item.embedding) for item in response.data] == [(i, [i + 1.0]) for i in range(5)]
    assert response.usage is not None
    assert (response.usage.prompt_tokens, response.usage.total_tokens) == (15, 15)


def test_batches_are_cut_by_weight_too() -> None:
    vendor = Vendor()
    embed(vendor, asked("ab", "cd", "efghij", "k", "é"), size=3, max_bytes=4)
    assert vendor.calls == [["ab", "cd"], ["efghij"], ["k", "é"]]


def test_base64_where_it_was_asked_for() -> None:
    (item,) = embed(Vendor(), asked("abc", encoding_format="base64")).data
    assert isinstance(item.embedding, str)
    assert struct.unpack("<f", base64.b64decode(item.embedding)) == (3.0,)


def test_one_call_without_usage_leaves_the_attempt_without() -> None:
    assert embed(Vendor({2: Vectors([[1.0]], None)}), asked("a", "b", "c")).usage is None


@pytest.mark.parametrize("answer", [[], [[1.0]], [[1.0]] * 3, ["AACAPw==", "AACAPw=="], [None, None], [["x"], ["y"]]])
def test_each_input_wants_one_vector_of_numbers(answer: list[object]) -> None:
    with pytest.raises(ProviderFailure) as caught:
        embed(Vendor({1: Vectors(answer, 3)}), asked("a", "b"))
    assert caught.value.kind is FailureKind.MALFORMED_ANSWER


@pytest.mark.parametrize("tokens", [-1, "x", 1e40, 1.5, []])
def test_a_count_that_cannot_be_is_none(tokens: object) -> None:
    response = embed(Vendor({1: Vectors([[1.0]], tokens)}), asked("a"))
    assert response.data[0].embedding == [1.0]
    assert response.usage is None


THROTTLED = ProviderFailure(FailureKind.RATE_LIMITED, "aws is throttling", retry_after=7)
REJECTED = ProviderFailure(FailureKind.REJECTED_REQUEST, "aws rejected", caller_message="too long", param="input")


def test_a_failure_of_the_first_call_is_as_it_is() -> None:
    with pytest.raises(ProviderFailure) as caught:
        embed(Vendor({1: THROTTLED}), asked("a", "b", "c"))
    assert caught.value is THROTTLED
    assert caught.value.consequence.settle is Settle.RELEASE


@pytest.mark.parametrize("failure", [THROTTLED, REJECTED])
def test_a_later_failure_is_never_released(failure: ProviderFailure) -> None:
    with pytest.raises(ProviderFailure) as caught:
        embed(Vendor({2: failure}), asked("a", "b", "c"))
    message = caught.value
    assert message.consequence.settle is Settle.BOUND, "the first call was served, and will be billed"
    assert message.consequence.fail_over == failure.consequence.fail_over
    assert message.consequence.health == failure.consequence.health
    assert (message.kind, message.retry_after, message.param) == (failure.kind, failure.retry_after, failure.param)
    assert message.caller_message == failure.caller_message
    assert message.message == f"{failure.message}, after 2 of 3 inputs"


@pytest.mark.parametrize("inputs", [[1, 2], [[1], [2]]])
def test_token_ids_are_refused_by_name(inputs: object) -> None:
    with pytest.raises(ProviderFailure) as caught:
        texts("aws", EmbeddingRequest.model_validate({"model": "m", "input": inputs}))
    assert (caught.value.kind, caught.value.param) == (FailureKind.REJECTED_REQUEST, "input")


def test_one_text_or_several() -> None:
    assert texts("aws", EmbeddingRequest(model="m", input="a")) == ["a"]
    assert texts("aws", asked("a", "b")) == ["a", "b"]
