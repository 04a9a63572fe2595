"""`python -m fusewire.runtime [app.handler]`: import the function, be frozen and thawed where the platform takes a
snapshot, then serve it until the platform ends."""

import gc
import importlib
import os
import sys
from io import TextIOWrapper

from fusewire.runtime.api import RuntimeApi, RuntimeApiError
from fusewire.runtime.loop import Handler, run
from fusewire.runtime.report import report
from fusewire.runtime.snapshot import is_snapshot, pass_through


def _handler(name: str) -> Handler:
    """The function that `module.attribute` names, from the task's folder."""
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", os.getcwd()))
    module, _, attribute = name.rpartition(".")
    # Modules stay: to look for garbage among them costs a cold start, and then every full collection, tens of ms.
    gc.disable()
    handler: Handler = getattr(importlib.import_module(module.replace("/", ".")), attribute)
    gc.freeze()
    gc.enable()
    return handler


def main() -> int:
    """:return: the exit status: 1 when the function can't be loaded or the platform is gone"""
    if isinstance(sys.stdout, TextIOWrapper):
        # Into a pipe it would hold back what a function prints.
        sys.stdout.reconfigure(line_buffering=True)
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    try:
        try:
            handler = _handler(sys.argv[1] if len(sys.argv) > 1 else os.environ["_HANDLER"])
        except Exception as error:  # noqa: BLE001 - anything may go wrong in a module's import
            api.fail_init(report(error))
            return 1
        if is_snapshot() and not pass_through(api):
            return 1
        run(api, handler, int(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY", "1")))
    except RuntimeApiError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
