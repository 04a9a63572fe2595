"""The console on AWS: its files, built for the API's address, go into the bucket that Terraform made with CloudFront.

The API lets the console's pages in, and CloudFront's headers let the pages out to the API: each has to know the other's
address. Terraform is first, so the functions are deployed with the console's, and Terraform gets the API's as soon as
the stack has one.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import uuid4

from local.console_build import fingerprint, made_of
from local.console_files import INDEX, KINDS, kept
from scripts.deploy.target import PROJECT, DeployError, Run, say

_BUILT: Final = PROJECT / ".aws-sam" / "console"
_NONE: Final = "none"
"""What Terraform writes where there is no console."""
_MADE_OF: Final = "made-of"
_AN_UPLOAD: Final = timedelta(hours=1)
"""Longer than one takes."""


def is_wanted(outputs: dict[str, str]) -> bool:
    """:param outputs: what Terraform wrote, by the last part of the SSM parameters' names"""
    return outputs.get("console_bucket", _NONE) != _NONE


def origin_of(base_url: str | None) -> str | None:
    """The origin of the API's address, which the console's policy names."""
    if base_url is None:
        return None
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.netloc}"


def with_console(allowed: str, outputs: dict[str, str]) -> str:
    """:param allowed: `CorsOrigins` of the settings

    :return: the same with the console's origin
    """
    origins = [each.strip() for each in allowed.split(",") if each.strip()]
    if not is_wanted(outputs) or "*" in origins or outputs["console_origin"] in origins:
        return allowed
    return ",".join([*origins, outputs["console_origin"]])


def deploy_console(run: Run, session: Any, outputs: dict[str, str], base_url: str) -> None:  # noqa: ANN401 - boto3 has no types
    """Build and upload it, unless what is there was built of the same sources for the same address.

    :raises DeployError: when it can't be built on this machine
    """
    client, bucket = session.client("s3"), outputs["console_bucket"]
    before = _index(client, bucket)
    if before is not None and before["Metadata"].get(_MADE_OF) == fingerprint(base_url):
        say("The console is what it was.")
        return
    _build(run, base_url)
    names = sorted(path.relative_to(_BUILT).as_posix() for path in _BUILT.rglob("*") if path.suffix in KINDS)
    # The page comes last, when all that it loads is there; it is also what says that the upload was finished.
    for name in sorted(names, key=lambda name: name == INDEX):
        client.put_object(
            Bucket=bucket, Key=name, Body=(_BUILT / name).read_bytes(), ContentType=KINDS[Path(name).suffix],
            CacheControl=kept(name), Metadata={_MADE_OF: made_of(_BUILT)} if name == INDEX else {},
        )  # fmt: skip
    if before is not None:
        _remove_older(client, bucket, set(names), before["LastModified"] - _AN_UPLOAD)
    # CloudFront asks for a page again after a second, but keeps what wasn't there for longer.
    session.client("cloudfront").create_invalidation(
        DistributionId=outputs["console_distribution_id"],
        InvalidationBatch={"Paths": {"Quantity": 1, "Items": ["/*"]}, "CallerReference": uuid4().hex},
    )


def _build(run: Run, base_url: str) -> None:
    _BUILT.parent.mkdir(exist_ok=True)
    try:
        run(["make", "--no-print-directory", "console", f"OUT={_BUILT}", f"NEXT_PUBLIC_API_URL={base_url}"])
    except DeployError as error:
        raise DeployError(
            f"The API is deployed; the console isn't, since it can't be built here ({error}). Repeat make deploy, or "
            "leave the console out: console = false in Terraform's variables."
        ) from error


def _index(client: Any, bucket: str) -> dict[str, Any] | None:  # noqa: ANN401
    """What S3 says of the page that is there; None before the first upload."""
    try:
        found: dict[str, Any] = client.head_object(Bucket=bucket, Key=INDEX)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey"):
            return None
        raise
    return found


def _remove_older(client: Any, bucket: str, names: set[str], uploaded: Any) -> None:  # noqa: ANN401
    """Remove what neither this build nor the one before has: tabs that are open load from the one before.

    :param uploaded: when the one before began at the latest
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    for each in (each for page in pages for each in page.get("Contents", ())):
        if each["Key"] not in names and each["LastModified"] < uploaded:
            client.delete_object(Bucket=bucket, Key=each["Key"])
