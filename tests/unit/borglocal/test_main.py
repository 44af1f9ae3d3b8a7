import re
import sys
from pathlib import Path

import pytest

from borglocal import main as main_module
from borglocal.folder import RunFolder
from borglocal.record import RunRecord, borg_version, write_record


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
