import datetime as dt
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from borgsetup.certificates import HOSTS, RENEWED, Certificates, is_current, make_certificates
from tests.limits import HANG_S


@pytest.fixture(scope="module")
def made() -> Certificates:
    return make_certificates()


def shake_hands(made: Certificates, trusted: Certificates, folder: Path, host: str) -> None:
    """Lets a client that trusts one authority speak to a server that has the other's certificate."""
    for name, content in (("http.crt", made.certificate), ("http.key", made.key)):
        (folder / name).write_bytes(content)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "http.crt", folder / "http.key")
    ours, theirs = socket.socketpair()
    ours.settimeout(HANG_S)
    theirs.settimeout(HANG_S)

    def serve() -> None:
        try:
            context.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    server = threading.Thread(target=serve)
    server.start()
    try:
        trust = ssl.create_default_context(cadata=trusted.authority.decode())
        trust.wrap_socket(ours, server_hostname=host).close()
    finally:
        ours.close()
        server.join(HANG_S)


@pytest.mark.parametrize("host", [*HOSTS, "127.0.0.1"])
def test_who_trusts_the_authority_trusts_the_server_under_each_of_its_names(
    made: Certificates, tmp_path: Path, host: str
) -> None:
    shake_hands(made, made, tmp_path, host)


def test_another_name_and_another_authority_are_not_trusted(made: Certificates, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(made, made, tmp_path, "kibana")
    with pytest.raises(ssl.SSLError):
        shake_hands(made, make_certificates(), tmp_path, "elasticsearch")


def test_a_certificate_is_current_until_shortly_before_its_end(made: Certificates) -> None:
    end = x509.load_pem_x509_certificate(made.certificate).not_valid_after_utc
    assert dt.timedelta(days=800) < end - dt.datetime.now(dt.UTC) < dt.timedelta(days=826)
    assert is_current(made, dt.datetime.now(dt.UTC))
    assert is_current(made, end - RENEWED - dt.timedelta(seconds=1))
    assert not is_current(made, end - RENEWED)


@pytest.mark.parametrize("damage", ["authority", "certificate", "key"])
def test_what_is_missing_broken_or_anothers_is_not_current(made: Certificates, damage: str) -> None:
    other = make_certificates()
    for content in (b"", b"nonsense", getattr(other, damage)):
        assert not is_current(made._replace(**{damage: content}), dt.datetime.now(dt.UTC))


def test_the_server_may_not_sign_certificates(made: Certificates) -> None:
    certificate = x509.load_pem_x509_certificate(made.certificate)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
