"""The console's files in S3, in moto: what is uploaded, in which order, and what is taken away."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import boto3  # type: ignore[import-untyped]
import pytest
from botocore.exceptions import ClientError  # type: ignore[import-untyped]
from moto import mock_aws

from local.console_build import fingerprint
from scripts.deploy import console
from scripts.deploy.console import deploy_console, origin_of, with_console
from scripts.deploy.target import DeployError
from tests.support.distribution import make_distribution

API: Final = "https://abc123.execute-api.eu-central-1.amazonaws.com/live/api/v1"
PUT: Final = "before-parameter-build.s3.PutObject"
OUTPUTS: Final = {"console_bucket": "files", "console_origin": "https://d1.cloudfront.net"}


class Account:
    """A bucket with CloudFront in moto, and a build that makes these files."""

    def __init__(self, session: Any, folder: Path) -> None:  # noqa: ANN401 - boto3 has no types
        self.session = session
        self.s3, self.cloudfront = session.client("s3"), session.client("cloudfront")
        self.bucket = f"files-{uuid4().hex}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.outputs = OUTPUTS | {
            "console_bucket": self.bucket,
            "console_distribution_id": make_distribution(self.cloudfront, self.bucket),
        }
        self.files = {"index.html": "<!doctype html>", "404.html": "none", "icon.svg": "<svg/>", "assets/a-1.js": "a()"}
        self.commands: list[Sequence[str]] = []
        self.put: list[str] = []
        self.fails_at = ""
        self._folder = folder

    def deploy(self) -> None:
        deploy_console(self._run, self.session, self.outputs, API)

    def keys(self) -> set[str]:
        return {each["Key"] for each in self.s3.list_objects_v2(Bucket=self.bucket)["Contents"]}

    def invalidations(self) -> list[list[str]]:
        where = {"DistributionId": self.outputs["console_distribution_id"]}
        listed = self.cloudfront.list_invalidations(**where)["InvalidationList"].get("Items", [])
        ids = [each["Id"] for each in listed]
        got = [self.cloudfront.get_invalidation(**where, Id=each)["Invalidation"] for each in ids]
        return [each["InvalidationBatch"]["Paths"]["Items"] for each in got]

    def _run(self, command: Sequence[str]) -> None:
        self.commands.append(command)
        for name, text in (self.files | {"made-of.txt": fingerprint(API)}).items():
            (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / name).write_text(text)

    def note(self, params: dict[str, Any], **_: object) -> None:
        if params["Key"] == self.fails_at:
            raise ClientError({"Error": {"Code": "SlowDown"}}, "PutObject")
        self.put.append(params["Key"])


@pytest.fixture(scope="module")
def session() -> Iterator[Any]:
    with mock_aws():
        yield boto3.session.Session(region_name="us-east-1")


@pytest.fixture
def account(session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:  # noqa: ANN401
    monkeypatch.setattr(console, "_BUILT", tmp_path / "console")
    made = Account(session, tmp_path / "console")
    session.events.register(PUT, made.note)
    yield made
    session.events.unregister(PUT, made.note)


def test_the_files_are_there_as_they_were_built_with_the_headers_that_they_need(account: Account) -> None:
    account.deploy()
    [built] = account.commands
    assert built[-1] == f"NEXT_PUBLIC_API_URL={API}" and "console" in built
    found = {key: account.s3.get_object(Bucket=account.bucket, Key=key) for key in account.keys()}
    assert {key: each["Body"].read().decode() for key, each in found.items()} == account.files
    assert {key: (each["ContentType"], each["CacheControl"]) for key, each in found.items()} == {
        "index.html": ("text/html; charset=utf-8", "no-cache"),
        "404.html": ("text/html; charset=utf-8", "no-cache"),
        "icon.svg": ("image/svg+xml", "no-cache"),
        "assets/a-1.js": ("text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
    }
    assert account.put[-1] == "index.html", "a page is there when all is that it loads"
    assert account.invalidations() == [["/*"]]


def test_what_is_there_already_is_neither_built_nor_uploaded_again(account: Account) -> None:
    account.deploy()
    account.deploy()
    assert len(account.commands) == len(account.invalidations()) == account.put.count("index.html") == 1


def test_an_upload_that_was_cut_off_is_made_anew(account: Account) -> None:
    account.fails_at = "icon.svg"
    with pytest.raises(ClientError, match="SlowDown"):
        account.deploy()
    assert "index.html" not in account.keys()
    account.fails_at = ""
    account.deploy()
    assert account.keys() == account.files.keys()


@pytest.mark.parametrize(("since", "stays"), [(timedelta(hours=1), True), (timedelta(hours=-1), False)])
def test_what_the_build_before_loads_stays_and_what_only_older_ones_load_goes(
    since: timedelta, stays: bool, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.deploy()
    account.files = account.files | {"assets/a-2.js": "b()"}
    del account.files["assets/a-1.js"]
    (console._BUILT / "assets/a-1.js").unlink()
    monkeypatch.setattr(console, "fingerprint", lambda address: "other sources")
    monkeypatch.setattr(console, "_AN_UPLOAD", since)
    account.deploy()
    assert account.keys() == account.files.keys() | ({"assets/a-1.js"} if stays else set())


def test_a_refusal_is_not_taken_for_an_empty_bucket(account: Account) -> None:
    def refuse(**_: object) -> None:
        raise ClientError({"Error": {"Code": "403"}}, "HeadObject")

    account.session.events.register("before-parameter-build.s3.HeadObject", refuse)
    try:
        with pytest.raises(ClientError, match="403"):
            account.deploy()
    finally:
        account.session.events.unregister("before-parameter-build.s3.HeadObject", refuse)
    assert account.commands == []


def test_a_machine_that_cant_build_it_says_what_to_do(account: Account) -> None:
    def fail(command: Sequence[str]) -> None:
        raise DeployError("make failed: 2")

    with pytest.raises(DeployError, match=r"The API is deployed.*make failed: 2.*console = false"):
        deploy_console(fail, account.session, account.outputs, API)


@pytest.mark.parametrize(
    ("allowed", "then"),
    [
        ("", "https://d1.cloudfront.net"),
        ("https://a.example, https://b.example", "https://a.example,https://b.example,https://d1.cloudfront.net"),
        ("https://d1.cloudfront.net", "https://d1.cloudfront.net"),
        ("*", "*"),
    ],
)
def test_the_consoles_origin_may_call_the_api(allowed: str, then: str) -> None:
    assert with_console(allowed, OUTPUTS) == then
    assert with_console(allowed, {"console_bucket": "none"}) == allowed


def test_an_origin_has_no_path() -> None:
    assert origin_of(API) == "https://abc123.execute-api.eu-central-1.amazonaws.com"
    assert origin_of(None) is None
