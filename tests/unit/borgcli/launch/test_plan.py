import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from borgcli.launch import group
from borgcli.launch import plan as plan_module
from borgcli.launch.plan import PASSWORD_VARIABLE, open_plan
from borgcli.launch.specs import agent_command, child_environment
from borgcli.options import Flags
from borgcore.errors import BorgError, CorruptDataError, MismatchError, SettingsError
from borgcore.run.folder import RunFolder
from borgcore.run.record import read_record
from borgcore.service.runtime import LAST_MOMENT_S
from borgcore.settings.sections import RedisSettings


@pytest.fixture
def flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flags:
    monkeypatch.setattr(plan_module, "has_cuda", lambda: False)
    return Flags(runs=tmp_path)


def make(flags: Flags) -> RunFolder:
    with open_plan(flags) as plan:
        return plan.folder


def test_a_run_is_named_for_its_game_and_time_and_its_settings_are_kept(flags: Flags) -> None:
    with open_plan(flags) as plan:
        assert plan.folder.run.startswith("pong-20")
        assert plan.record.agents in {1, 2}
        kept = read_record(plan.folder)
    assert (kept.game, kept.preset, kept.seed, kept.state) == ("pong", "small", plan.record.seed, "running")


def test_two_unnamed_runs_of_one_second_get_two_names(flags: Flags) -> None:
    assert make(flags) != make(flags)


def test_a_resumed_run_needs_no_flags_again(flags: Flags) -> None:
    made = make(replace(flags, run="one", game="catch", agents=3, seed=5, capacity=100))
    with open_plan(replace(flags, resume=True)) as plan:
        assert plan.resumed
        assert plan.folder == made
        assert (plan.record.game, plan.record.agents, plan.record.seed, plan.record.capacity) == ("catch", 3, 5, 100)


def test_resume_without_a_name_takes_the_newest(flags: Flags) -> None:
    make(replace(flags, run="b"))
    make(replace(flags, run="a"))
    with open_plan(replace(flags, resume=True)) as plan:
        assert plan.folder.run == "a"
    with open_plan(replace(flags, resume=True, run="b")) as plan:
        assert plan.folder.run == "b"


def test_a_resumed_run_may_have_another_number_of_agents(flags: Flags) -> None:
    make(replace(flags, run="one", agents=1))
    with open_plan(replace(flags, resume=True, agents=4)) as plan:
        assert plan.record.agents == 4
    assert read_record(plan.folder).agents == 4


@pytest.mark.parametrize(
    ("there", "game", "preset"), [(False, "pong", "small"), (True, "pong", "nature"), (True, "catch", "tiny")]
)
@pytest.mark.parametrize("asked", [None, "auto"])
def test_the_preset_that_auto_meant_at_first_is_kept_on_another_machine(
    flags: Flags, monkeypatch: pytest.MonkeyPatch, *, there: bool, game: str, preset: str, asked: str | None
) -> None:
    monkeypatch.setattr(plan_module, "has_cuda", lambda: there)
    folder = make(replace(flags, run="one", game=game))
    assert read_record(folder).preset == preset
    monkeypatch.setattr(plan_module, "has_cuda", lambda: not there)
    with open_plan(replace(flags, resume=True, preset=asked)) as plan:
        command = agent_command(plan, RedisSettings())
    assert command[command.index("--preset") + 1] == preset


def test_an_agent_has_all_the_time_that_the_run_waits_for_its_drain(flags: Flags) -> None:
    with open_plan(flags) as plan:
        command = agent_command(plan, RedisSettings())
    assert float(command[command.index("--grace-s") + 1]) == plan.grace_s == 20
    assert group._LATE_S > LAST_MOMENT_S, "an agent that cuts itself off says so before it is killed"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"game": "breakout"}, "--game breakout contradicts run one, which was made with pong; leave --game out"),
        ({"preset": "nature"}, "--preset nature contradicts run one, which was made with small"),
        ({"capacity": 5}, "--capacity 5 contradicts run one, which was made without it"),
        ({"redis_url": "redis://elsewhere"}, "--redis-url redis://elsewhere contradicts run one"),
    ],
)
def test_a_flag_that_contradicts_the_run_is_refused(flags: Flags, change: dict[str, Any], text: str) -> None:
    folder = make(replace(flags, run="one", game="pong"))
    before = folder.record.read_bytes()
    with pytest.raises(MismatchError, match=text), open_plan(replace(flags, resume=True, **change)):
        pass
    assert folder.record.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"resume": True}, SettingsError, "nothing to resume: .* holds no run"),
        ({"resume": True, "run": "absent"}, SettingsError, "nothing to resume: there is no run absent"),
        ({"run": "../up"}, SettingsError, r"--run: found '\.\./up'; expected up to 64 letters"),
        ({"preset": "huge"}, SettingsError, "--preset: found 'huge'; expected one of auto, tiny, small, nature"),
        ({"runs": Path("/dev/null/runs")}, BorgError, "cannot make /dev/null/runs/.*: Not a directory"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(
    flags: Flags, change: dict[str, Any], error: type[BorgError], text: str
) -> None:
    with pytest.raises(error, match=text) as caught, open_plan(replace(flags, **change)):
        pass
    assert "\n" not in str(caught.value)


def test_a_damaged_record_is_named_not_guessed(flags: Flags) -> None:
    folder = make(replace(flags, run="one"))
    folder.record.write_text("{}")
    with (
        pytest.raises(CorruptDataError, match="is no run record: game: field required"),
        open_plan(replace(flags, resume=True, run="one")),
    ):
        pass


def test_a_password_in_the_url_reaches_neither_the_record_nor_a_command_line(
    flags: Flags, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "")
    before = dict(os.environ)
    with open_plan(replace(flags, run="one", redis_url="redis://user:s%40cret@somewhere:1234/2")) as plan:
        redis = plan.external_redis()
    assert dict(os.environ) == before, "a password is handed to children alone"
    assert "s@cret" not in repr(plan)
    assert redis is not None
    assert redis.url == "redis://user@somewhere:1234/2"
    assert redis.password is not None
    assert redis.password.get_secret_value() == child_environment(redis)[PASSWORD_VARIABLE] == "s@cret"
    assert "cret" not in plan.folder.record.read_text()
    assert not stat.S_IMODE(plan.folder.lock.stat().st_mode) & 0o077


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://host?password=s3cret", "a query or fragment is not allowed"),
        ("redis://host/2?db=1", "a query or fragment is not allowed"),
        ("redis://:s3cret#x@host", "a query or fragment is not allowed"),
        ("redis://user:s3/cret@host", "the port is no number|an @ follows"),
        ("redis://host:s3cret", "the port is no number"),
        ("rediss//:s3cret@host", "scheme 'missing'"),
    ],
)
def test_a_url_that_may_hold_a_secret_elsewhere_is_refused_without_it(flags: Flags, url: str, text: str) -> None:
    with (
        pytest.raises(SettingsError, match=rf"^--redis-url: ({text})[^\n]*; nothing was started$") as refused,
        open_plan(replace(flags, run="one", redis_url=url)),
    ):
        pass
    assert "s3" not in str(refused.value)
    assert "cret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert not (flags.runs / "one").exists()
