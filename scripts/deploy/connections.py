"""How functions reach Postgres: straight or through RDS Proxy, by password or by token.

When that changes, `make deploy` has Terraform add the new way, moves the functions to it, and only then has Terraform
remove the old one. Else the functions that are still called would have no database meanwhile. A version's own settings
say which way it takes: what Terraform wrote last doesn't, for a deployment may have failed after that.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, Final

from scripts.deploy.target import DeployError, Target, say

_HOST: Final = re.compile(r"\bhost=(\S+)")
_ROLE: Final = re.compile(r"\buser=\S")
_PARAMETER: Final = "database_connections"
_WAIT_SECONDS: Final = 900.0
_PAUSE_SECONDS: Final = 10.0


def connection_of(variables: Mapping[str, str]) -> str | None:
    """`direct-password`, `direct-iam`, `proxy-password` or `proxy-iam`: what Terraform calls a way to its database.

    :param variables: of a function's environment
    :return: None for a function that takes none of them: it has no database, another role, or a database elsewhere
    """
    url = variables.get("DATABASE_URL", "")
    host = _HOST.search(url)
    if host is None or not _ROLE.search(url):
        return None
    # RDS names a proxy NAME.proxy-ID.REGION.rds.amazonaws.com
    # (https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/rds-proxy-connecting.html).
    through = "proxy" if ".proxy-" in host[1] else "direct"
    return f"{through}-{'iam' if variables.get('FUSEWIRE_DATABASE_IAM') == 'true' else 'password'}"


def ensure_one_database(kind: str, url: str) -> None:
    """:param kind: what Terraform has made, `external` for none; :param url: `DATABASE_URL` of the settings, or empty

    :raises DeployError: where there are two databases, or none
    """
    if kind == "external" and not url:
        raise DeployError("Terraform's database is external, so the settings need DATABASE_URL.")
    if kind != "external" and url:
        raise DeployError(f"The settings have DATABASE_URL, and Terraform's database is {kind}: make it external.")


def ensure_reachable(session: Any, target: Target, version: str, connection: str | None) -> None:  # noqa: ANN401
    """:param version: a function's version that is about to be called, for the message

    :raises DeployError: where Terraform has removed the way that it takes
    """
    client = session.client("ssm")
    try:
        name = f"/fusewire/{target.stage}/{_PARAMETER}"
        there = client.get_parameter(Name=name)["Parameter"]["Value"].split(",")
    except client.exceptions.ParameterNotFound:
        return
    if connection is not None and connection not in there:
        raise DeployError(
            f"{version} connects by {connection}, and the database takes {', '.join(there)} now, so nothing was "
            f"changed. Set proxy_enabled and database_iam_auth in infra/{target.stage}.tfvars back, then make deploy."
        )


def wait_for_proxy(session: Any, name: str) -> None:  # noqa: ANN401
    """Wait until a proxy has reached its database: before that, it leaves callers waiting.

    :raises DeployError: when it still hasn't after a quarter of an hour
    """
    client = session.client("rds")
    reasons: list[str] = []
    for _ in range(int(_WAIT_SECONDS / _PAUSE_SECONDS)):
        targets = client.describe_db_proxy_targets(DBProxyName=name)["Targets"]
        # A cluster is listed too, and has no health of its own.
        health = [each["TargetHealth"] for each in targets if each.get("Type") != "TRACKED_CLUSTER"]
        if health and all(each["State"] == "AVAILABLE" for each in health):
            return
        reasons = [each.get("Reason", each["State"]) for each in health]
        say(f"The proxy {name} doesn't reach its database yet ({', '.join(reasons) or 'no target'}).")
        time.sleep(_PAUSE_SECONDS)
    raise DeployError(
        f"The proxy {name} can't reach its database ({', '.join(reasons)}). The functions were left as they are; "
        f"/aws/rds/proxy/{name} says why."
    )
