"""How a step asks its server: it waits, trusts, logs in, and says in one line what was refused."""

import base64
import ssl
from pathlib import Path

import pytest
import trustme
from anyio import to_thread

from borgcore.errors import ServerError, SettingsError
from borgsetup.server import open_server
from borgsetup.settings import SetupSettings
from borgsetup.store import prepare_store
from tests.sink import Answer, Sink, open_sink

from .steps import KEYS, PREPARED, answered, settings_of


async def test_a_server_that_is_not_up_yet_is_waited_for(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(dropped=True), Answer(503), Answer(429), *PREPARED, *KEYS]
    await prepare_store(settings_of(sink, tmp_path))
    assert [request.target for request in sink.requests[:4]] == ["/"] * 4


async def test_a_server_that_stays_away_is_one_line(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(503)] * 100
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path, wait_s=2.0))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} was not up within 2 s: it answered 503; start this step again "
        "when it is"
    )


async def test_a_refused_password_says_that_data_and_keys_belong_together(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(401)]
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} refused us (401); it was probably first started with other keys: data "
        "and keys belong together, restore the keys or remove both volumes; if Elasticsearch is new, its disk is "
        "probably too full for the index of its users: see its log and free some space"
    )


async def test_what_a_server_refuses_is_said_with_its_reason_and_without_our_secrets(
    sink: Sink, tmp_path: Path
) -> None:
    sink.answers += [PREPARED[0], Answer(400, b'{"error": "no such user"}')]
    with pytest.raises(ServerError) as caught:
        await prepare_store(settings_of(sink, tmp_path))
    assert str(caught.value) == (
        f"Elasticsearch at http://{sink.address} refused POST /_security/user/kibana_system/_password (400): "
        '{"error": "no such user"}'
    )


@pytest.mark.parametrize("missing", ["elastic_password", "kibana_password", "user_password"])
async def test_without_a_password_nothing_is_done(sink: Sink, tmp_path: Path, missing: str) -> None:
    with pytest.raises(SettingsError, match=missing):
        await prepare_store(settings_of(sink, tmp_path, **{missing: None}))
    assert sink.requests == []


async def test_an_answer_larger_than_any_that_is_expected_is_refused(sink: Sink, tmp_path: Path) -> None:
    sink.answers += [Answer(body=b" " * 2_000_000)]
    with pytest.raises(ServerError, match="has over 1,048,576 bytes"):
        await prepare_store(settings_of(sink, tmp_path))


async def test_a_server_with_a_certificate_of_another_authority_is_not_spoken_to(tmp_path: Path) -> None:
    context, authority = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.issue_cert("127.0.0.1").configure_cert(server)
    async with open_sink(server) as sink:
        url = f"https://{sink.address}"
        settings = settings_of(sink, tmp_path, elasticsearch_url=url, ca_file=tmp_path / "ca.crt")
        with pytest.raises(ServerError, match="cannot be trusted"):
            await prepare_store(settings)
        assert sink.requests == []


async def test_password_and_authority_are_read_again_before_each_request(tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    server, ca_file, password = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tmp_path / "ca.crt", tmp_path / "secrets"
    old.issue_cert("127.0.0.1").configure_cert(server)
    old.cert_pem.write_to_path(ca_file)
    password.mkdir()
    (password / "borg_setup_elastic_password").write_text("one")
    options = ("store", "--ca-file", str(ca_file), "--secrets-dir", str(password))
    settings = await to_thread.run_sync(SetupSettings.load, options)
    async with open_sink(server) as sink:
        sink.answers += [answered({}), answered({})]
        async with open_server("Elasticsearch", f"https://{sink.address}", settings) as asked:
            await asked.ask("GET", "/")
            new.issue_cert("127.0.0.1").configure_cert(server)
            new.cert_pem.write_to_path(ca_file)
            (password / "borg_setup_elastic_password").write_text("two")
            await asked.ask("GET", "/")
        logins = [request.headers["Authorization"].removeprefix("Basic ") for request in sink.requests]
    assert [base64.b64decode(login) for login in logins] == [b"elastic:one", b"elastic:two"]


async def test_a_file_that_is_no_authority_is_one_line(sink: Sink, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"ca_file: {tmp_path}/none cannot be read as a PEM certificate authority"):
        await prepare_store(settings_of(sink, tmp_path, ca_file=tmp_path / "none"))
