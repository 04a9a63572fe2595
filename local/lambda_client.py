"""AWS's own runtime client, `awslambdaric`, for a Runtime API whose address has a path.

Its native part takes such an address. What reports a function that can't be loaded is Python's `http.client`, which
takes a host and a port. Run as a script: `python lambda_client.py app.handler`.
"""

import os
import sys

sys.path[0] = os.getcwd()  # as with `python -m`: this folder's modules are not the function's

from awslambdaric import bootstrap  # noqa: E402
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient  # noqa: E402


class Client(LambdaRuntimeClient):  # type: ignore[misc] # it has no types
    """Sends each request to a path below the address's own."""

    def __init__(self, address: str) -> None:
        host, slash, path = address.partition("/")
        super().__init__(host)
        self._path = slash + path

    def call_rapid(self, http_method: str, endpoint: str, *arguments: object, **named: object) -> None:
        super().call_rapid(http_method, self._path + endpoint, *arguments, **named)


if __name__ == "__main__":
    bootstrap.run(sys.argv[1], Client(os.environ["AWS_LAMBDA_RUNTIME_API"]))
