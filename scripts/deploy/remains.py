"""What keeps a stage from being destroyed, and what a destroyed stage leaves behind."""

from collections.abc import Iterator, Sequence
from typing import Any

from scripts.deploy.target import DeployError, Target


def ensure_unprotected(session: Any, target: Target) -> None:  # noqa: ANN401 - boto3 has no types
    """:raises DeployError: while the database's deletion protection is on: Terraform would stop half-way"""
    client, name = session.client("rds"), f"fusewire-{target.stage}"
    try:
        found = client.describe_db_instances(DBInstanceIdentifier=name)["DBInstances"]
    except client.exceptions.DBInstanceNotFoundFault:
        try:
            found = client.describe_db_clusters(DBClusterIdentifier=name)["DBClusters"]
        except client.exceptions.DBClusterNotFoundFault:
            return
    if any(each.get("DeletionProtection") for each in found):
        raise DeployError(
            f"The database's deletion protection is on, so nothing was removed. Write deletion_protection = false "
            f"into infra/{target.stage}.tfvars, then make deploy, then make destroy."
        )


def key_of(session: Any, target: Target) -> str | None:  # noqa: ANN401
    """The ARN of the stage's key, as long as Terraform's parameters are there."""
    client = session.client("ssm")
    try:
        return str(client.get_parameter(Name=f"/fusewire/{target.stage}/kms_key_arn")["Parameter"]["Value"])
    except client.exceptions.ParameterNotFound:
        return None


def remains(session: Any, target: Target, log_groups: Sequence[str], key: str | None) -> Iterator[str]:  # noqa: ANN401
    """A line for each thing that is left, once all else is gone.

    :param log_groups: the stack's, which outlive it
    :param key: what encrypts the snapshots
    """
    name = f"fusewire-{target.stage}"
    rds = session.client("rds")
    snapshots = rds.describe_db_snapshots(DBInstanceIdentifier=name, SnapshotType="manual")["DBSnapshots"]
    yield from (f"snapshot {each['DBSnapshotIdentifier']}" for each in snapshots)
    snapshots = rds.describe_db_cluster_snapshots(DBClusterIdentifier=name, SnapshotType="manual")["DBClusterSnapshots"]
    yield from (f"snapshot {each['DBClusterSnapshotIdentifier']}" for each in snapshots)
    backups = rds.describe_db_instance_automated_backups(DBInstanceIdentifier=name)["DBInstanceAutomatedBackups"]
    yield from (f"automated backups of {each['DBInstanceIdentifier']}, until each is too old" for each in backups)
    yield from (f"log group {group}" for group in log_groups)
    yield f"secrets fusewire/{target.stage}/..., scheduled for deletion, restorable for 30 days"
    yield f"KMS key {key or 'of ' + name}: 1 USD a month, and what the snapshots hold is lost with it"
    yield "API Gateway's role for logs, if this stack made it: other APIs of the region log through it"
    yield f"state {target.stage}.tfstate in s3://{target.state}, and SAM's bucket of uploads"
