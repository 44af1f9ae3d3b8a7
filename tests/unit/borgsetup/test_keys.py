import hashlib
import re
from pathlib import Path

import pytest

from borgcore.errors import SettingsError
from borgsetup.keys import KAFKA_PASSWORDS, REDIS_PASSWORDS, SECRET_NAMES, SETUP, make_keys, read_password
from borgsetup.topics import TOPIC_GRANTS

TRUSTING = ("elasticsearch", "kibana", "logshipper", "logstash", "setup")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def secret(folder: Path, name: str) -> str:
    return (folder / SETUP / name).read_text()


def test_each_service_finds_what_it_needs_in_a_folder_of_its_own(tmp_path: Path) -> None:
    make_keys(tmp_path)
    assert sorted(contents(tmp_path)) == sorted(
        [
            "elasticsearch/ca.crt",
            "elasticsearch/elastic_password",
            "elasticsearch/http.crt",
            "elasticsearch/http.key",
            "kafka/jaas.conf",
            "kibana/ca.crt",
            "kibana/kibana.yml",
            "redis/password",
            "redis/redis.conf",
            "agent/borg_events_password",
            "agent/borg_redis_password",
            "monitor/borg_events_password",
            "monitor/borg_redis_password",
            "logshipper/borg_events_password",
            "logshipper/ca.crt",
            "logstash/borg_events_password",
            "logstash/ca.crt",
            "setup/ca.crt",
            *(f"setup/{name}" for name in SECRET_NAMES),
        ]
    )


def test_both_ends_of_each_connection_have_the_same_password(tmp_path: Path) -> None:
    make_keys(tmp_path)
    found = {name: content.decode() for name, content in contents(tmp_path).items()}
    users = {line.split()[1]: line for line in found["redis/redis.conf"].splitlines()}
    assert users.keys() == REDIS_PASSWORDS.keys()
    for user, name in REDIS_PASSWORDS.items():
        assert users[user].endswith(f" #{hashlib.sha256(found[f'setup/{name}'].encode()).hexdigest()}")
    assert found["redis/password"] == secret(tmp_path, "redis_password")
    for service in ("agent", "monitor"):
        assert found[f"{service}/borg_redis_password"] == secret(tmp_path, REDIS_PASSWORDS[service])
    assert found["elasticsearch/elastic_password"] == secret(tmp_path, "borg_setup_elastic_password")
    assert f'"{secret(tmp_path, "borg_setup_kibana_password")}"' in found["kibana/kibana.yml"]
    assert len({found[f"{name}/ca.crt"] for name in TRUSTING}) == 1


def test_kafka_knows_each_service_by_a_password_of_its_own(tmp_path: Path) -> None:
    make_keys(tmp_path)
    login = (tmp_path / "kafka/jaas.conf").read_text()
    known = dict(re.findall(r'user_(\w+)="([^"]+)"', login))
    assert known == {user: secret(tmp_path, name) for user, name in KAFKA_PASSWORDS.items()}
    assert f'username="broker" password="{known["broker"]}"' in login
    assert len(set(known.values())) == len(known)
    assert known.keys() == {"broker", "setup", *TOPIC_GRANTS}
    for user in TOPIC_GRANTS:
        assert (tmp_path / user / "borg_events_password").read_text() == known[user]


def test_passwords_are_long_unlike_and_need_no_quoting(tmp_path: Path) -> None:
    make_keys(tmp_path)
    found = [secret(tmp_path, name) for name in SECRET_NAMES]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", word) for word in found)
    assert len(set(found)) == len(found)


def test_a_second_time_nothing_changes(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = contents(tmp_path)
    make_keys(tmp_path)
    assert contents(tmp_path) == before


def test_what_was_lost_is_handed_out_again_and_passwords_stay(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = contents(tmp_path)
    for name in ("kafka/jaas.conf", "agent/borg_redis_password"):
        (tmp_path / name).unlink()
    (tmp_path / "redis/redis.conf").chmod(0o600)
    (tmp_path / "redis/redis.conf").write_text("requirepass nonsense\n")
    make_keys(tmp_path)
    assert contents(tmp_path) == before


def test_with_the_certificate_the_authority_is_made_anew_for_all_who_trust_it(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = contents(tmp_path)
    (tmp_path / "elasticsearch/http.crt").unlink()
    make_keys(tmp_path)
    after = contents(tmp_path)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {
        "elasticsearch/http.crt",
        "elasticsearch/http.key",
        *(f"{name}/ca.crt" for name in TRUSTING),
    }


def test_no_secret_is_open_to_others_but_those_of_redis_whose_user_is_another(tmp_path: Path) -> None:
    make_keys(tmp_path)
    public = {path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_mode & 0o077}
    names = {str(path.relative_to(tmp_path)) for path in public if path.suffix != ".crt"}
    assert names == {"redis/password", "redis/redis.conf"}


def test_the_password_is_that_of_kibanas_user(tmp_path: Path) -> None:
    make_keys(tmp_path)
    assert read_password(tmp_path) == secret(tmp_path, "borg_setup_user_password")


def test_a_password_that_is_not_made_yet_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / SETUP / "borg_setup_user_password"
    with pytest.raises(SettingsError) as caught:
        read_password(tmp_path)
    expected = f"keys_dir: cannot read {path}: No such file or directory; run the step keys first"
    assert str(caught.value) == expected


def test_a_folder_that_is_a_file_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / SETUP).write_text("")
    with pytest.raises(SettingsError) as caught:
        make_keys(tmp_path)
    assert str(caught.value).startswith(f"keys_dir: cannot write {tmp_path}/setup")
    assert str(caught.value).endswith("; expected folders that this user may write; run it again")
