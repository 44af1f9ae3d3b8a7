"""Passwords and certificates of the stack: created once, then written for each service to its own folder.

The folder ``setup/`` holds every password; the other folders are derived from it each time. In the full stack each
folder is a volume that only one service mounts, so none can read another's secret. Kafka knows each service as a user
of its own; :mod:`borgsetup.topics` says what that user may do.
"""

import datetime as dt
import os
import secrets
import tempfile
from pathlib import Path

import structlog
from pydantic import SecretStr

from borgcore.errors import SettingsError
from borgcore.run.access import hashed, user_line
from borgsetup.certificates import Certificates, is_current, make_certificates

OWNER_READS, ALL_READ = 0o400, 0o444
SETUP = "setup"
KAFKA_PASSWORDS = {
    "broker": "kafka_broker_password",
    "setup": "borg_events_password",  # the name of the setting, because the setup reads this folder
    "agent": "kafka_agent_password",
    "monitor": "kafka_monitor_password",
    "logshipper": "kafka_logshipper_password",
    "logstash": "kafka_logstash_password",
}
"""Kafka's users, and the file of each one's password."""
REDIS_PASSWORDS = {
    "default": "redis_password",
    "setup": "borg_redis_password",  # the name of the setting, because the setup reads this folder
    "agent": "redis_agent_password",
    "monitor": "redis_monitor_password",
}
"""Redis' users, and the file of each one's password."""
SECRET_NAMES = (
    "borg_setup_elastic_password",
    "borg_setup_kibana_password",
    "borg_setup_user_password",
    *REDIS_PASSWORDS.values(),
    *KAFKA_PASSWORDS.values(),
    "kibana_encryption_key",
)
_SECRET_BYTES = 24  # 32 characters
_log = structlog.get_logger()


def make_keys(folder: Path, run: str = "default") -> None:
    """Create missing secrets, renew a certificate that is about to expire, and distribute them.

    Redis' users may use the keys of ``run``.

    Raises:
        SettingsError: a folder cannot be written.
    """
    try:
        passwords = {name: _password(folder / SETUP / name) for name in SECRET_NAMES}
        files = _files(passwords, _certificates(folder), run)
        written = [path for path, (content, mode) in files.items() if _write(folder / path, content, mode)]
    except OSError as error:
        where = f"{error.filename or folder}: {error.strerror}"
        raise SettingsError(
            f"keys_dir: cannot write {where}; expected folders that this user may write; run it again"
        ) from None
    _log.info("keys_made", folder=str(folder), written=len(written), kept=len(files) - len(written))


def read_password(folder: Path) -> str:
    """Return the password of Kibana's user borg.

    Raises:
        SettingsError: there is none yet, or it cannot be read.
    """
    return read_secret(folder, "borg_setup_user_password").get_secret_value()


def read_secret(folder: Path, name: str) -> SecretStr:
    """Return one of the passwords in setup/.

    Raises:
        SettingsError: there is none yet, or it cannot be read.
    """
    try:
        return SecretStr((folder / SETUP / name).read_text())
    except OSError as error:
        raise SettingsError(
            f"keys_dir: cannot read {error.filename}: {error.strerror}; run the step keys first"
        ) from None


def write_secret(path: Path, content: str) -> None:
    """Write a file that only its owner may read, atomically."""
    _write(path, content.encode(), OWNER_READS)


def _password(path: Path) -> str:
    if not path.exists():
        _write(path, secrets.token_urlsafe(_SECRET_BYTES).encode(), OWNER_READS)
    return path.read_text()


def _certificates(folder: Path) -> Certificates:
    paths = [folder / "elasticsearch" / name for name in ("ca.crt", "http.crt", "http.key")]
    found = Certificates(*(path.read_bytes() if path.exists() else b"" for path in paths))
    return found if is_current(found, dt.datetime.now(dt.UTC)) else make_certificates()


def _files(passwords: dict[str, str], certificates: Certificates, run: str) -> dict[str, tuple[bytes, int]]:
    texts = {
        "kafka/jaas.conf": _jaas(passwords),
        "kibana/kibana.yml": _kibana(passwords),
        "elasticsearch/elastic_password": passwords["borg_setup_elastic_password"],
        "agent/borg_redis_password": passwords[REDIS_PASSWORDS["agent"]],
        "monitor/borg_redis_password": passwords[REDIS_PASSWORDS["monitor"]],
    }
    for service in ("agent", "monitor", "logshipper", "logstash"):
        texts[f"{service}/borg_events_password"] = passwords[KAFKA_PASSWORDS[service]]
    files = {path: (text.encode(), OWNER_READS) for path, text in texts.items()}
    files["redis/redis.conf"] = (_redis(passwords, run).encode(), ALL_READ)  # the server runs as another user
    files["redis/password"] = (passwords["redis_password"].encode(), ALL_READ)
    files["elasticsearch/http.key"] = (certificates.key, OWNER_READS)
    files["elasticsearch/http.crt"] = (certificates.certificate, ALL_READ)
    for name in ("elasticsearch", "kibana", "logshipper", "logstash", SETUP):
        files[f"{name}/ca.crt"] = (certificates.authority, ALL_READ)
    return files


def _redis(passwords: dict[str, str], run: str) -> str:
    """Return Redis' users: the default one for the health check alone, the setup, and the services."""
    secret = {user: SecretStr(passwords[name]) for user, name in REDIS_PASSWORDS.items()}
    lines = [
        f"user default reset on +ping {hashed(secret['default'])}",
        f"user setup reset on ~* &* +@all {hashed(secret['setup'])}",
        user_line("agent", run, secret["agent"]),
        user_line("monitor", run, secret["monitor"]),
    ]
    return "".join(f"{line}\n" for line in lines)


def _jaas(passwords: dict[str, str]) -> str:
    """Return Kafka's users, and the one as whom the broker connects to itself."""
    login = f'username="broker" password="{passwords[KAFKA_PASSWORDS["broker"]]}"'
    users = " ".join(f'user_{user}="{passwords[name]}"' for user, name in KAFKA_PASSWORDS.items())
    return f"KafkaServer {{\n  org.apache.kafka.common.security.plain.PlainLoginModule required {login} {users};\n}};\n"


def _kibana(passwords: dict[str, str]) -> str:
    """Return Kibana's secret settings; the others are in deploy/kibana/kibana.yml."""
    key = passwords["kibana_encryption_key"]
    settings = {
        "elasticsearch.username": "kibana_system",
        "elasticsearch.password": passwords["borg_setup_kibana_password"],
        "xpack.security.encryptionKey": key,
        "xpack.encryptedSavedObjects.encryptionKey": key,
        "xpack.reporting.encryptionKey": key,
    }
    return "".join(f'{name}: "{value}"\n' for name, value in settings.items())


def _write(path: Path, content: bytes, mode: int) -> bool:
    """Write a file atomically; return False if it was up to date."""
    if path.exists() and path.read_bytes() == content and path.stat().st_mode & 0o777 == mode:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, fresh = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), mode)
        Path(fresh).replace(path)
    except BaseException:
        Path(fresh).unlink(missing_ok=True)
        raise
    return True
