"""Who calls, from what API Gateway hands on of the authorizer's verdict."""

import json
from typing import Any

import pytest

from fusewire.ai.permissions import EVERYTHING, Permissions
from fusewire.config import load_settings
from fusewire.errors import AuthenticationError, PermissionDeniedError
from fusewire.http.identity import OPEN, Identity, identity_of, refuse_unknown_page
from fusewire.http.route import Access

KEYS = load_settings({"AUTH_MODE": "keys"})
SOME = Identity("key_1", frozenset({"complete"}), Permissions(("sota", "openai/*"), ("public",)))


def event(authorizer: object) -> dict[str, Any]:
    return {"requestContext": {"requestId": "r", "authorizer": authorizer}}


@pytest.mark.parametrize(
    "identity", [SOME, Identity("bootstrap", frozenset({"admin", "complete"})), Identity("key_2", frozenset())]
)
def test_what_the_authorizer_says_comes_through_as_strings(identity: Identity) -> None:
    context = identity.context()
    assert all(isinstance(value, str) for value in context.values())
    # API Gateway adds its own to what the authorizer gave.
    received = json.loads(json.dumps({**context, "principalId": "x", "integrationLatency": 3}))
    assert identity_of(event(received), KEYS) == identity


@pytest.mark.parametrize("authorizer", [None, {}, {"principalId": "someone"}, {"key_id": ""}, {"key_id": None}])
def test_where_keys_are_asked_for_a_gap_lets_nobody_in(authorizer: object) -> None:
    for gap in (event(authorizer), {"requestContext": None}, {}):
        with pytest.raises(AuthenticationError):
            identity_of(gap, KEYS)


def test_a_context_without_scopes_is_a_bug_and_lets_nobody_in() -> None:
    with pytest.raises(KeyError):
        identity_of(event({"key_id": "key_1"}), KEYS)


def test_in_open_mode_whoever_sends_no_key_is_an_admin() -> None:
    settings = load_settings({"AUTH_MODE": "open"})
    for result in ({}, event(None), event({}), {"requestContext": None}):
        identity = identity_of(result, settings)
        assert identity is OPEN
        assert (identity.actor, identity.key_id, identity.is_admin) == ("open", None, True)
        assert identity.permissions == EVERYTHING


def test_in_open_mode_a_key_that_was_checked_counts() -> None:
    assert identity_of(event(SOME.context()), load_settings({"AUTH_MODE": "open"})) == SOME


STRANGE = ["https://evil.example", "null", "http://localhost.evil.example", "http://127.0.0.1.evil.example:8000", "x:["]


@pytest.mark.parametrize("origin", STRANGE)
def test_in_open_mode_a_page_that_nobody_knows_changes_nothing(origin: str) -> None:
    settings = load_settings({"AUTH_MODE": "open", "CORS_ORIGINS": "https://app.example"})
    for site in ("cross-site", None):
        with pytest.raises(PermissionDeniedError, match="CORS_ORIGINS"):
            refuse_unknown_page(origin, site, settings)
    refuse_unknown_page(origin, "cross-site", KEYS)  # no page has a key by itself
    refuse_unknown_page(origin, "cross-site", load_settings({"AUTH_MODE": "open", "CORS_ORIGINS": "*"}))


def test_in_open_mode_another_sites_image_changes_nothing() -> None:
    """A browser names no origin for it."""
    settings = load_settings({"AUTH_MODE": "open", "CORS_ORIGINS": "https://app.example"})
    with pytest.raises(PermissionDeniedError, match="CORS_ORIGINS"):
        refuse_unknown_page(None, "cross-site", settings)
    for site in (None, "none", "same-origin", "same-site"):
        refuse_unknown_page(None, site, settings)
    refuse_unknown_page(None, "cross-site", KEYS)


@pytest.mark.parametrize("origin", [None, "https://app.example", "http://localhost:3000", "http://[::1]:8000"])
def test_known_pages_and_whatever_is_no_browser_may(origin: str | None) -> None:
    refuse_unknown_page(origin, None, load_settings({"AUTH_MODE": "open", "CORS_ORIGINS": "https://app.example"}))


READER, ADMIN = Identity("k", frozenset({"read"})), Identity("k", frozenset({"admin"}))
LEAD = Identity("k", frozenset({"admin", "complete"}), scope_budget_id="budget_1")


@pytest.mark.parametrize(
    ("access", "some", "reader", "admin", "lead"),
    [
        ("everybody", True, True, True, True),
        ("any_key", True, True, True, True),
        ("complete", True, False, False, True),
        ("read", False, True, True, True),
        ("admin", False, False, True, True),
        ("company_read", False, True, True, False),
        ("company_admin", False, False, True, False),
    ],
)
def test_a_scope_is_for_its_routes(access: Access, some: bool, reader: bool, admin: bool, lead: bool) -> None:
    for identity, allowed in ((SOME, some), (READER, reader), (ADMIN, admin), (LEAD, lead)):
        assert (identity.lacks(access) is None) is allowed
        if not allowed:
            with pytest.raises(PermissionDeniedError):
                identity.require(access)


def test_amounts_of_the_company_are_for_its_admins() -> None:
    assert [each.is_admin for each in (SOME, READER, LEAD, ADMIN)] == [False, False, False, True]


def test_code_that_knows_no_binding_takes_its_holder_for_somebody_without_the_scopes() -> None:
    """While a release is rolled out an older function may get what a newer authorizer says."""
    assert json.loads(LEAD.context()["scopes"]) == ["complete"]
    assert identity_of(event(LEAD.context()), KEYS) == LEAD
