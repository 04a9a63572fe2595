"""The shape alone: what is left of a call when everything of fusewire's own is taken out of it.

The gateway, the Runtime API and a worker as ever; in the worker the vendor's SDK, between the ledger's two statements,
each a durable commit, the second once the answer has left. Nothing is validated, priced, chosen, logged or put into
headers. So what a call takes here, no code of ours can save, as long as it runs as a Lambda function, asks by the
vendor's SDK and books in Postgres.
"""

from typing import Final

ENTRY: Final = "ENTRY-ID"
"""In the place of an id in the statements' arguments."""
