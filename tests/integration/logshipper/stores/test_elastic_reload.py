"""Elasticsearch's certificate authority and our login change while the store is open."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from borglogshipper.settings import LogshipperSettings
from borglogshipper.stores.open import open_store
from borglogshipper.stores.store import Documents, Store, StoreHeldError
from tests.limits import HANG_S

from .conftest import Server
from .tls_gateway import TlsGateway

INDEX = "training_log-2026.11"


@pytest.fixture
async def gateway(elasticsearch_url: str) -> AsyncIterator[TlsGateway]:
    gateway = TlsGateway(elasticsearch_url)
    yield gateway
    await gateway.stop()


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


async def _load(gateway: TlsGateway, server: Server, secrets: Path, *options: str) -> LogshipperSettings:
    given = ("--store.url", gateway.url, "--store.ca-file", str(secrets / "ca.crt"), *options)
    given = ("--secrets-dir", str(secrets), "--store.prefix", server.prefix, *given)
    return await to_thread.run_sync(LogshipperSettings.load, given)


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


async def _write(store: Store, id_: str) -> None:
    assert await store.write(Documents([INDEX], [id_], [b'{"a":1}'])) == {}
    assert await store.read([INDEX], [id_]) == [b'{"a":1}']


async def test_a_new_api_key_in_its_file_is_used_once_the_old_one_is_refused(
    gateway: TlsGateway, server: Server, secrets: Path
) -> None:
    key = secrets / "borg_logshipper_store__api_key"
    key.write_text("one\n")
    gateway.accepted = "ApiKey one"
    await gateway.start(secrets / "ca.crt")
    settings = await _load(gateway, server, secrets)
    with anyio.fail_after(HANG_S), capture_logs() as logs:
        async with open_store(settings.store, settings.store_url) as store:
            await _write(store, "a")
            key.write_text("two\n")
            await _write(store, "b")  # the old one is still the right one
            assert gateway.refused == 0
            gateway.accepted = "ApiKey two"
            await _write(store, "c")
            assert gateway.refused == 1
            await _write(store, "d")
            assert gateway.refused == 1
    assert [entry["event"] for entry in logs] == ["store_login_renewed"]


async def test_a_server_that_changes_before_the_file_refuses_us_until_the_file_follows(
    gateway: TlsGateway, server: Server, secrets: Path
) -> None:
    (secrets / "borg_logshipper_store__user").write_text("borg")
    password = secrets / "borg_logshipper_store__password"
    password.write_text("one")
    gateway.accepted = _basic("borg", "one")
    await gateway.start(secrets / "ca.crt")
    settings = await _load(gateway, server, secrets)
    with anyio.fail_after(HANG_S):
        async with open_store(settings.store, settings.store_url) as store:
            await _write(store, "a")
            gateway.accepted = _basic("borg", "two")
            for _ in range(2):
                with pytest.raises(StoreHeldError, match=r"answered 401 .*; its files are read again at each try$"):
                    await _write(store, "b")
            assert gateway.refused == 2
            password.unlink()
            with pytest.raises(StoreHeldError, match="401"), capture_logs() as logs:
                await _write(store, "b")
            assert "found a user without a password" in logs[0]["reason"]
            password.write_text("two")
            await _write(store, "b")


async def test_a_login_in_the_toml_file_is_read_again_as_well(
    gateway: TlsGateway, server: Server, secrets: Path, tmp_path: Path
) -> None:
    config = tmp_path / "borg.toml"
    config.write_text('[logshipper.store]\napi_key = "one"\n')
    gateway.accepted = "ApiKey one"
    await gateway.start(secrets / "ca.crt")
    settings = await _load(gateway, server, secrets, "--config", str(config))
    with anyio.fail_after(HANG_S):
        async with open_store(settings.store, settings.store_url) as store:
            await _write(store, "a")
            gateway.accepted = "ApiKey two"
            config.write_text("[logshipper.store\n")  # half written
            with pytest.raises(StoreHeldError, match=r"401 .*; its files could not be read again: .* is not TOML: "):
                await _write(store, "b")
            config.write_text('[logshipper.store]\napi_key = "two"\n')
            await _write(store, "b")


async def test_a_certificate_of_a_new_authority_is_trusted_once_the_file_holds_it(
    gateway: TlsGateway, server: Server, secrets: Path, tmp_path: Path
) -> None:
    (secrets / "borg_logshipper_store__api_key").write_text("one")
    gateway.accepted, ca_file = "ApiKey one", secrets / "ca.crt"
    await gateway.start(ca_file)
    settings = await _load(gateway, server, secrets)
    with anyio.fail_after(HANG_S):
        async with open_store(settings.store, settings.store_url) as store:
            await _write(store, "a")
            await gateway.start(tmp_path / "new.pem")
            untrusted = rf"cannot be trusted: .*; {ca_file} is read again at each try$"
            with pytest.raises(StoreHeldError, match=untrusted):
                await _write(store, "b")
            ca_file.write_text("no certificate")
            with pytest.raises(StoreHeldError, match=untrusted):
                await _write(store, "b")
            ca_file.write_bytes((tmp_path / "new.pem").read_bytes())
            await _write(store, "b")
            await gateway.start(ca_file)  # both at once
            async with anyio.create_task_group() as group:
                for id_ in "cde":
                    group.start_soon(_write, store, id_)
