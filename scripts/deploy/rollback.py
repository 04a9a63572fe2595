"""`make rollback`: the versions before, in seconds and without a build. The old code runs on the new schema."""

from typing import Any

from scripts.deploy.connections import ensure_reachable
from scripts.deploy.stack import Stack
from scripts.deploy.target import DeployError, Target, say


def rollback(target: Target, session: Any) -> None:  # noqa: ANN401 - boto3 has no types
    """Lead every function's alias but migrate's to the version before the last deployment. Harmless when repeated.

    :raises DeployError: where there is none, or where it connects in a way that the last deployment removed
    """
    stack = Stack(session, target)
    if stack.cancel_update():
        say(f"{target.stack}: the deployment under way is cancelled; CloudFormation goes back to the versions before.")
        return
    if stack.status() is None:
        raise DeployError(f"There is no stack {target.stack} in {target.region}.")
    migrate = stack.outputs()["Migrate"]
    moves = []
    for function in stack.functions():
        if f":{function.name}:" in migrate:
            continue
        previous = max((v for v in stack.versions(function.name) if v < function.published), default=None)
        if previous is None:
            raise DeployError(f"{function.name} has no version before {function.published}: nothing was changed.")
        connection = stack.connection(function.name, str(previous))
        ensure_reachable(session, target, f"Version {previous} of {function.name}", connection)
        moves.append((function, previous))
    for function, previous in moves:
        if function.live != previous:
            stack.move(function.name, previous)
        say(f"{function.name}: version {previous}")
    stack.wait_until_active()
