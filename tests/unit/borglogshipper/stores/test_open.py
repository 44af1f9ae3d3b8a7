from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from borgcore.errors import SettingsError
from borgcore.eventstore.settings import StoreSettings
from borglogshipper.stores.elastic import ElasticStore
from borglogshipper.stores.open import open_store
from borglogshipper.stores.sqlite import SqliteStore

EXPECTED = "expected https://host:port, http://host:port or sqlite:///path; nothing was started"


async def test_http_urls_open_elasticsearch_and_sqlite_urls_a_file(tmp_path: Path) -> None:
    async with open_store(StoreSettings(), "http://127.0.0.1:9/es/") as elastic:
        assert isinstance(elastic, ElasticStore)
        assert elastic._where == "Elasticsearch at 127.0.0.1:9/es"
    async with open_store(StoreSettings(), "HTTPS://[::1]:9") as elastic:
        assert isinstance(elastic, ElasticStore)
        assert elastic._where == "Elasticsearch at [::1]:9"
    async with open_store(StoreSettings(), f"sqlite:///{tmp_path}/events.sqlite") as absolute:
        assert isinstance(absolute, SqliteStore)
        assert absolute._path == tmp_path / "events.sqlite"
    async with open_store(StoreSettings(), "sqlite:///runs/pong/events.sqlite") as relative:
        assert isinstance(relative, SqliteStore)
        assert relative._path == Path("runs/pong/events.sqlite")
    async with open_store(StoreSettings(), "sqlite:////runs/a%20b%23c%3F/events.sqlite") as encoded:
        assert isinstance(encoded, SqliteStore)
        assert encoded._path == Path("/runs/a b#c?/events.sqlite")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mysql://hunter2", "found another scheme or none"),
        ("hunter2", "found another scheme or none"),
        ("http:hunter2", "found another scheme or none"),
        ("", "found another scheme or none"),
        ("http://hunter2", "found no port"),
        ("http://:9200/hunter2", "found no host"),
        ("http://hunter 2:9200", "the host is no name or address"),
        ("http://host:hunter2", "host and port cannot be told apart"),
        ("http://host:99999/hunter2", "host and port cannot be told apart"),
        ("http://[::1/hunter2", "host and port cannot be told apart"),
        ("http://host:9200/?q=hunter2", "a query or fragment is not allowed"),
        ("http://host:9200/#hunter2", "a query or fragment is not allowed"),
        ("sqlite:///", "what follows sqlite:/// is no file's path"),
        ("sqlite:///hunter2/", "what follows sqlite:/// is no file's path"),
        ("sqlite:///a?hunter2", "what follows sqlite:/// is no file's path"),
        ("sqlite://hunter2", "found another scheme or none"),
    ],
)
def test_a_wrong_url_is_refused_without_repeating_any_of_it(url: str, found: str) -> None:
    with pytest.raises(SettingsError) as refused:
        open_store(StoreSettings(), url)
    assert str(refused.value) == f"store url: {found}; {EXPECTED}"


@pytest.mark.parametrize("url", ["https://elastic:hunter2@host:9200", "http://hunter2@host:9200", "https://h:1/a@b"])
def test_credentials_in_the_url_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        open_store(StoreSettings(), url)
    assert str(refused.value) == (
        "store url: found an @, credentials are not taken from a URL; give credentials by BORG_LOGSHIPPER_STORE__USER "
        "and __PASSWORD, or __API_KEY; nothing was started"
    )


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"user": "a"}, "store: found a user without a password, expected both or neither"),
        ({"password": SecretStr("a")}, "store: found a password without a user, expected both or neither"),
        (
            {"user": "a", "password": SecretStr("b"), "api_key": SecretStr("c")},
            "store: found an api_key beside user or password, expected one of the two ways to log in",
        ),
        (
            {"api_key": SecretStr("c\n")},
            "store api_key: found a line break, a space or no ASCII in it, expected an encoded key",
        ),
    ],
)
def test_credentials_that_do_not_fit_together_are_refused(settings: dict[str, Any], found: str) -> None:
    with pytest.raises(SettingsError) as refused:
        open_store(StoreSettings(**settings), "https://host:9200")
    assert str(refused.value) == f"{found}; nothing was started"


async def test_an_invalid_certificate_file_is_refused(tmp_path: Path) -> None:
    for name, url, found in (
        ("absent.pem", "https://host:9200", "is no file; expected a PEM certificate authority"),
        ("empty.pem", "https://host:9200", "holds no certificate; expected a PEM certificate authority"),
    ):
        path = tmp_path / name
        if name == "empty.pem":
            path.write_text("")
        with pytest.raises(SettingsError) as refused:
            async with open_store(StoreSettings(ca_file=path), url):
                pass
        assert str(refused.value) == f"store ca_file: {path} {found}; nothing was started"
    with pytest.raises(SettingsError) as refused:
        async with open_store(StoreSettings(ca_file=tmp_path / "empty.pem"), "http://host:9200"):
            pass
    assert str(refused.value) == (
        "store ca_file: found one beside an http:// url, expected https://; nothing was started"
    )


@pytest.mark.parametrize("limit", [{"retention_days": 30.0}, {"retention_bytes": 10_000_000}])
async def test_a_retention_is_refused_where_it_would_have_no_effect(tmp_path: Path, limit: dict[str, Any]) -> None:
    async with open_store(StoreSettings(**limit), f"sqlite:///{tmp_path}/events.sqlite"):
        pass
    with pytest.raises(SettingsError, match="found one with Elasticsearch at 127"):
        open_store(StoreSettings(**limit), "http://127.0.0.1:9")
