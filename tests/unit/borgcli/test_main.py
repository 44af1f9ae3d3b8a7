import re
import sys
from pathlib import Path

import anyio.lowlevel
import pytest

from borgcli import main as main_module
from borgcli.commands import up as up_module
from borgcli.launch import supervisor
from borgcli.launch.plan import Plan
from borgcli.launch.session import Session
from borgcli.screen.display import Display
from borgcore.run.folder import RunFolder
from borgcore.run.record import RunRecord, borg_version, write_record


def borg(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["borg", *arguments])
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["up", "--agnets", "2"], "No such option: --agnets"),
        (["up", "--agents", "0"], "'--agents': input should be greater than or equal to 1"),
        (["up", "--agents", "two"], "'--agents': input should be a valid integer"),
        (["up", "--for", "soon"], "--for: 'soon' is no duration"),
        (["up", "--until-return", "high"], "'--until-return': input should be a valid number"),
        (["up", "--preset", "huge"], "--preset: found 'huge'; expected one of auto, tiny, small, nature"),
        (["up", "--run", "a/b"], "--run: found 'a/b'; expected up to 64 letters"),
        (["up", "--resume"], "nothing to resume"),
        (["up", "--redis-url", "redis://[::1"], "--redis-url: found a value that is no URL"),
        (["down"], "No such command 'down'"),
        (["up", "extra"], "unexpected extra argument"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert borg(monkeypatch, *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert text.lower() in err.lower()
    assert "nothing" in err
    assert not list(tmp_path.rglob("run.json"))


def test_help_names_every_option_and_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert borg(monkeypatch, "up", "--help") == 0
    written = capsys.readouterr().out
    options = "agents game preset for until-return run resume seed capacity redis-url runs-dir".split()  # noqa: SIM905
    for name in options:
        assert f"--{name}" in written
    for code in (0, 1, 2, 3, 4, 5, 130):
        assert re.search(rf"\b{code} [a-z]", written)


def test_the_version_is_the_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert borg(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"borg {borg_version()}\n"


def test_runs_are_listed_with_their_last_state(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert borg(monkeypatch, "runs", "--runs-dir", str(tmp_path)) == 0
    assert capsys.readouterr().out.endswith("holds no run\n")
    folder = RunFolder(tmp_path / "one")
    folder.create()
    write_record(folder, RunRecord(game="catch", preset="tiny", agents=3, seed=0).ended("over", 0))
    assert borg(monkeypatch, "runs", "--runs-dir", str(tmp_path)) == 0
    assert re.search(r"one +catch +tiny +3 +[-\d]+ [:\d]+ +over", capsys.readouterr().out)


def ends(monkeypatch: pytest.MonkeyPatch, text: str, code: int, *, writes: dict[Path, int]) -> None:
    """Have a run end at once, with so many bytes in these files."""

    async def run(display: Display) -> Session:
        await anyio.lowlevel.checkpoint()
        session = Session(display)
        session.end(text, code)
        return session

    def run_up(_: Plan, display: Display) -> Session:
        for path, size_bytes in writes.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(size_bytes))
        return anyio.run(run, display)

    monkeypatch.setattr(supervisor, "run_up", run_up)
    monkeypatch.setattr(up_module, "end_with_uv", lambda: False)


@pytest.mark.parametrize(
    ("text", "code", "file", "size_bytes"),
    [
        ("Redis at elsewhere:6379 cannot be reached", 3, "agent-1.log", 200),
        ("the memory is another game's", 4, "valkey/appendonlydir/appendonly.aof.1.incr.aof", 9_000),
        ("no space", 1, "agent-1.log", 0),
    ],
)
def test_a_start_that_failed_before_anyone_played_gives_its_name_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, text: str, code: int, file: str, size_bytes: int
) -> None:
    ends(monkeypatch, text, code, writes={tmp_path / "one" / file: size_bytes})
    for _ in range(2):
        assert borg(monkeypatch, "up", "--game", "catch", "--run", "one", "--runs-dir", str(tmp_path)) == code
        assert not (tmp_path / "one").exists()


@pytest.mark.parametrize(
    ("text", "code", "file", "size_bytes"),
    [
        ("agent process 1 died; log: {folder}/agent-1.log", 1, "agent-1.log", 1),
        ("Redis is gone", 3, "checkpoints/1/newest.pt", 1),
        ("Redis is gone", 3, "valkey/appendonlydir/appendonly.aof.2.base.rdb", 2 << 20),
        ("stopped by Ctrl-C", 0, "agent-1.log", 1),
    ],
)
def test_a_run_with_something_worth_keeping_or_reading_stays_and_can_be_resumed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, text: str, code: int, file: str, size_bytes: int
) -> None:
    folder = tmp_path / "one"
    ends(monkeypatch, text.format(folder=folder), code, writes={folder / file: size_bytes})
    assert borg(monkeypatch, "up", "--game", "catch", "--run", "one", "--runs-dir", str(tmp_path)) == code
    assert (folder / file).exists()
    ends(monkeypatch, "Redis cannot be reached", 3, writes={folder / file: 0})
    assert borg(monkeypatch, "up", "--resume", "--run", "one", "--runs-dir", str(tmp_path)) == 3
    assert (folder / file).exists(), "a run that was resumed stays, whatever became of it"
