import hashlib

import pytest
from pydantic import SecretStr

from borgcore.run.access import ROLES, Role, derive_password, rules, user_line

MASTER = SecretStr("m4ster")


@pytest.mark.parametrize("role", ROLES)
def test_a_user_begins_with_nothing_and_gets_commands_by_name_and_keys_of_its_run(role: Role) -> None:
    found = rules(role, "one")
    assert found[:2] == ["reset", "on"]
    keys = [rule for rule in found if rule.startswith(("~", "%"))]
    assert keys
    assert all("~borg:{one:r0}:" in rule for rule in keys)
    others = [rule for rule in found[2:] if rule not in keys]
    assert all(rule.startswith(("+", "(~borg:{one:r0}:lease:*")) for rule in others)
    assert not any("@" in rule for rule in others)


def test_a_line_of_the_configuration_holds_the_passwords_hash_alone() -> None:
    password = SecretStr("s3cret")
    line = user_line("agent", "one", password)
    assert line.startswith("user agent reset on ~borg:{one:r0}:* ")
    assert line.endswith(" #" + hashlib.sha256(b"s3cret").hexdigest())
    assert "s3cret" not in line


def test_derived_passwords_differ_and_stay_the_same() -> None:
    words = [derive_password(MASTER, role).get_secret_value() for role in ROLES]
    assert len({*words, "m4ster"}) == len(ROLES) + 1
    assert words == [derive_password(MASTER, role).get_secret_value() for role in ROLES]
