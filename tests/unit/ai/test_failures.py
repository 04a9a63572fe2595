"""The table of consequences: complete, and never generous with money or with content."""

import pytest

from fusewire.ai.failures import CONSEQUENCES, Consequence, FailureKind, Health, ProviderFailure, Settle

K, S, H = FailureKind, Settle, Health

# Once more, by hand and by rule, so that a changed row is a decision and not a slip.
NOTHING_WAS_SENT = {K.CONNECT_FAILED, K.CONNECT_TIMEOUT, K.NOT_SENT}
CALLERS_OWN = {
    K.REJECTED_REQUEST,
    K.FIELD_REFUSED,
    K.UNKNOWN_REFUSAL,
    K.OUTPUT_CAP_REACHED,
    K.PROMPT_REFUSED,
    K.CONTENT_POLICY,
    K.TOO_LARGE,
    K.INPUT_TOO_LONG,
}
OPERATORS_OWN = {K.CREDENTIAL_REJECTED, K.OUT_OF_CREDIT}
REFUSED_TO_SERVE = {K.CONFLICT, K.RATE_LIMITED, K.SERVER_ERROR, K.OVERLOADED, K.MODEL_NOT_FOUND, K.MODEL_DENIED}
NOTHING_WAS_GENERATED = {K.PROMPT_REFUSED, K.INPUT_TOO_LONG}
NOBODY_KNOWS = {
    K.CONTENT_POLICY,
    K.UNKNOWN_REFUSAL,
    K.OUTPUT_CAP_REACHED,
    K.READ_TIMEOUT,
    K.CONNECTION_LOST,
    K.REQUEST_TIMEOUT,
    K.GATEWAY_ERROR,
    K.MALFORMED_ANSWER,
    K.ANSWER_TOO_LARGE,
    K.STREAM_BROKEN,
    K.STREAM_ERROR,
    K.FIELD_IGNORED,
    K.STREAM_BROKEN_LATE,
}


def test_every_kind_has_its_row() -> None:
    assert set(CONSEQUENCES) == set(FailureKind)
    assert NOTHING_WAS_SENT | CALLERS_OWN | OPERATORS_OWN | REFUSED_TO_SERVE | NOBODY_KNOWS == set(FailureKind)


@pytest.mark.parametrize("kind", FailureKind)
def test_money_is_released_only_where_the_provider_certainly_did_no_work(kind: FailureKind) -> None:
    assert (CONSEQUENCES[kind].settle is Settle.BOUND) == (kind in NOBODY_KNOWS)
    assert (CONSEQUENCES[kind].settle is Settle.INPUT_BOUND) == (kind in NOTHING_WAS_GENERATED)


@pytest.mark.parametrize("kind", FailureKind)
def test_only_the_callers_mistakes_and_a_begun_stream_stay_where_they_are(kind: FailureKind) -> None:
    assert CONSEQUENCES[kind].fail_over == (kind not in CALLERS_OWN - {K.FIELD_REFUSED} | {K.STREAM_BROKEN_LATE})


@pytest.mark.parametrize("kind", FailureKind)
def test_a_caller_cannot_send_a_provider_into_a_cooldown(kind: FailureKind) -> None:
    health = CONSEQUENCES[kind].health
    if kind in CALLERS_OWN:
        assert health is Health.UNTOUCHED
    elif kind in {K.MODEL_NOT_FOUND, K.MODEL_DENIED, K.FIELD_IGNORED, K.NOT_SENT, K.ANSWER_TOO_LARGE}:
        assert health is Health.NOTE
    elif kind in OPERATORS_OWN:
        assert health is Health.NOW
    else:
        assert health is Health.COUNT


def test_a_failure_knows_its_consequence_and_keeps_the_vendors_words_apart() -> None:
    failure = ProviderFailure(K.REJECTED_REQUEST, "openai rejected the request", caller_message="theirs")
    assert failure.consequence == Consequence(False, S.RELEASE, H.UNTOUCHED)
    assert str(failure) == "openai rejected the request"
