"""The stack's certificate authority and the certificate that it signs for Elasticsearch.

The authority's key is discarded after signing, so nobody can make another certificate that the services trust. When
the certificate is about to expire, both are replaced.
"""

import datetime as dt
import ipaddress
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOSTS = ("elasticsearch", "localhost")
VALID = dt.timedelta(days=825)  # the longest that all TLS libraries accept for a server
RENEWED = dt.timedelta(days=30)  # before it expires
_SKEW = dt.timedelta(days=1)  # between clocks


class Certificates(NamedTuple):
    """All in PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


def make_certificates() -> Certificates:
    """Create an authority and a server's certificate for :data:`HOSTS` and the loopback addresses."""
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Borg-DQN authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTS[0])])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    authority = (
        _begin(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    names: list[x509.GeneralName] = [x509.DNSName(host) for host in HOSTS]
    names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ("127.0.0.1", "::1")]
    certificate = (
        _begin(subject, issuer, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Certificates(
        authority.public_bytes(Encoding.PEM),
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def is_current(certificates: Certificates, now: dt.datetime) -> bool:
    """Return whether the certificate is signed by its authority, matches its key, and does not expire soon."""
    try:
        authority = x509.load_pem_x509_certificate(certificates.authority)
        certificate = x509.load_pem_x509_certificate(certificates.certificate)
        certificate.verify_directly_issued_by(authority)
        matches = load_pem_private_key(certificates.key, None).public_key() == certificate.public_key()
    except Exception:  # noqa: BLE001  # whatever these files are, they are not ours
        return False
    return matches and now + RENEWED < certificate.not_valid_after_utc


def _begin(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + VALID)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
