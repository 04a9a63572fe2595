"""The schema of a deployment: migrated as its owner, then opened to the role that the functions run as."""

from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from fusewire.config import Settings
from fusewire.credentials import database_credentials, login_of
from fusewire.errors import LedgerUnavailableError
from fusewire.store.migrate import IncompatibleSchemaError, migrate

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('fusewire.migrate'))"


def bring_up_to_date(settings: Settings) -> list[str]:
    """Apply what is missing; then let in the role in `FUSEWIRE_APP_SECRET_ARN`, by its password or by IAM tokens.

    :return: what this run applied, as `migrate` names it
    :raises LedgerUnavailableError: when a secret or Postgres can't be reached, Postgres refuses, or its schema is
        another program's; what was applied before stays, and it can be run again
    """
    if settings.database_url is None:
        raise LedgerUnavailableError("DATABASE_URL is not set")
    owner = database_credentials(settings)
    url = make_conninfo(settings.database_url.get_secret_value(), **(owner(True) if owner else {}))
    login = login_of(settings.fusewire_app_secret_arn) if settings.fusewire_app_secret_arn else None
    try:
        applied = migrate(url)
        if login is not None:
            _let_in(url, **login, by_token=settings.fusewire_app_iam == "true")
    except IncompatibleSchemaError as error:
        raise LedgerUnavailableError(str(error)) from None
    except psycopg.Error as error:
        # Its text may hold the address, and in a syntax error the statement.
        raise LedgerUnavailableError(type(error).__name__) from None
    return applied


def _let_in(url: str, user: str, password: str, *, by_token: bool) -> None:
    with psycopg.connect(url, connect_timeout=10) as connection:
        connection.execute(_LOCK)
        # Encrypted here: the server's log may show statements.
        encrypted = connection.pgconn.encrypt_password(password.encode(), user.encode(), b"scram-sha-256").decode()
        connection.execute(
            sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(user), sql.Literal(encrypted))
        )
        # RDS asks a member of this role for a token and nobody else, whatever password it has. So tokens are for a role
        # of their own: versions of the functions that come with the password aren't cut off.
        if by_token:
            _let_in_by_token(connection, user)
        elif connection.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'").rowcount:
            connection.execute(sql.SQL("REVOKE rds_iam FROM {}").format(sql.Identifier(user)))


def _let_in_by_token(connection: psycopg.Connection[Any], user: str) -> None:
    """Make the role that has `user`'s rights and comes with a token; the name is Terraform's `token_user` too."""
    name = f"{user}_iam"
    role = sql.Identifier(name)
    if not connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,)).rowcount:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(user), role))
    connection.execute(sql.SQL("GRANT rds_iam TO {}").format(role))
