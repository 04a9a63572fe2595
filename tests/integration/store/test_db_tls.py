"""TLS to Postgres: verified, by the certificates in the layer and by nothing else."""

import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr

from fusewire.errors import LedgerUnavailableError
from fusewire.store.db import Database
from tests.support.certificates import self_signed
from tests.support.database import ask
from tests.support.postgres_proxy import postgres_proxy

ROOTS = Path(__file__).resolve().parents[3] / "layers/core/certs/rds.pem"
ENCRYPTED = "SELECT to_jsonb(1) WHERE $1::jsonb IS NOT NULL"


def test_a_server_whose_certificate_is_vouched_for_is_spoken_to(database_url: str, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with postgres_proxy(database_url, certificate) as proxy:
        url = proxy.url(sslmode="verify-full", sslrootcert=str(certificate.certificate))
        database = Database(SecretStr(url))
        assert ask(database, ENCRYPTED, {}) == 1
        connection = database._free[0]._connection
        assert connection is not None
        assert connection.pgconn.ssl_in_use
        database.close()


def test_a_server_that_nobody_vouches_for_is_not(database_url: str, tmp_path: Path) -> None:
    with postgres_proxy(database_url, self_signed(tmp_path)) as proxy:
        url = proxy.url(sslmode="verify-full", sslrootcert=str(ROOTS))
        with pytest.raises(LedgerUnavailableError, match="OperationalError"):
            ask(Database(SecretStr(url)), ENCRYPTED, {})


def test_a_server_of_another_name_is_not(database_url: str, tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    with postgres_proxy(database_url, certificate) as proxy:
        url = proxy.url(sslmode="verify-full", sslrootcert=str(certificate.certificate), host="localhost")
        with pytest.raises(LedgerUnavailableError, match="OperationalError"):
            ask(Database(SecretStr(url)), ENCRYPTED, {})


def test_the_layers_roots_are_rds_and_amazons_own() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ROOTS)
    names = [dict(pair for part in root["subject"] for pair in part) for root in context.get_ca_certs()]  # type: ignore[misc] # ssl's own nested pairs
    common = {name.get("commonName", "") for name in names}
    assert {f"Amazon Root CA {number}" for number in (1, 2, 3, 4)} <= common
    for region in ("eu-central-1", "us-east-1", "ap-northeast-1"):
        assert {f"Amazon RDS {region} Root CA {kind} G1" for kind in ("RSA2048", "RSA4096", "ECC384")} <= common
