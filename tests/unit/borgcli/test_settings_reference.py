from pathlib import Path

import pytest

from borgcli.settings_reference import PROGRAMS, list_settings, write_reference
from borgcore.settings.service import ServiceSettings, SharedSettings

DOCUMENT = Path(__file__).parents[3] / "docs/settings.md"


def test_the_committed_reference_is_the_one_that_the_classes_make() -> None:
    assert DOCUMENT.read_text() == write_reference()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.service)
def test_every_setting_is_listed_once_with_its_meaning(program: type[ServiceSettings]) -> None:
    section = write_reference().split(f"## borg-{program.service}\n")[1].split("\n## ")[0]
    own = list(list_settings(program, without=frozenset(SharedSettings.model_fields)))
    rows = [row.split("`")[1] for row in section.splitlines() if row.startswith("| `")]
    assert rows == [setting.name for setting in own]
    assert [setting.name for setting in own if not setting.description] == []


def test_a_nested_setting_has_type_default_and_source() -> None:
    found = {setting.name: setting for setting in list_settings(PROGRAMS[0])}
    rate = found["learner.learning_rate"]
    assert (rate.type, rate.default) == ("number", "`0.00025`")
    assert found["redis_password"].type == "secret"
    assert found["events_sasl"].default == "`SCRAM-SHA-512`"
