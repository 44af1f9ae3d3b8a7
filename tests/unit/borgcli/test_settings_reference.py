import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from borgcli.settings_reference import PROGRAMS, Setting, list_own, list_settings, write_reference
from borgcore.settings.service import SHARED_PREFIX, ServiceSettings, SharedSettings

DOCUMENT = Path(__file__).parents[3] / "docs/settings.md"
SAMPLES = {"text": "a", "secret": "a", "path": "/a", "number": "1", "integer": "20000000"}
every_program = pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.service)


def test_the_committed_reference_is_the_one_that_the_classes_make() -> None:
    assert DOCUMENT.read_text() == write_reference()


@every_program
def test_every_setting_is_listed_once_with_its_meaning(program: type[ServiceSettings]) -> None:
    section = write_reference().split(f"## borg-{program.service}\n")[1].split("\n## ")[0]
    own = list(list_own(program))
    rows = [row.split(" | ")[0].removeprefix("| ") for row in section.splitlines() if row.startswith("| `")]
    assert rows == [setting.key for setting in own]
    assert [setting.key for setting in own if not setting.meaning] == []


def names_set(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from names_set(value, f"{prefix}{name}.")
        elif isinstance(value, dict):
            for section in value.values():
                yield from names_set(section, f"{prefix}{name}.<n>.")
        else:
            yield prefix + name


def sample(setting: Setting) -> str:
    if setting.key == "`health_address`":
        return ""
    return SAMPLES[setting.type] if setting.default == "none" else setting.default.strip("`")


@every_program
def test_every_variable_reaches_its_setting(program: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    shared = list_settings(SharedSettings, SHARED_PREFIX, without=["config", "secrets_dir"])
    listed = [one for one in (*shared, *list_own(program)) if one.key not in {"`agents`", "`step`"}]
    for setting in listed:
        monkeypatch.setenv(setting.variable.strip("`").replace("<n>", "1"), sample(setting))
    settings = program.load(["keys"] if program.service == "setup" else [])
    assert {f"`{name}`" for name in names_set(settings)} - {"`step`"} == {setting.key for setting in listed}


@every_program
def test_every_option_is_one_of_the_programs(
    program: type[ServiceSettings], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.load(["--help"])
    known = set(re.findall(r"(?<![\w-])--[\w.-]+", capsys.readouterr().out))
    listed = [
        option
        for one in (*list_settings(SharedSettings, SHARED_PREFIX), *list_own(program))
        for option in one.option.split(", ")
    ]
    assert {option.strip("`") for option in listed} - {"first argument", "-"} == known - {"--help"}


def test_a_nested_setting_has_type_default_and_source() -> None:
    found = {one.key.strip("`"): one for one in list_settings(PROGRAMS[0], PROGRAMS[0].env_prefix())}
    rate = found["learner.learning_rate"]
    assert rate[1:5] == ("`--learner.learning-rate`", "`BORG_AGENT_LEARNER__LEARNING_RATE`", "number", "`0.00025`")
    assert found["agents.<n>.epsilon"].variable == "`BORG_AGENT_AGENTS__<n>__EPSILON`"
    assert found["redis_password"].type == "secret"
    assert found["events_sasl"].default == "`SCRAM-SHA-512`"
