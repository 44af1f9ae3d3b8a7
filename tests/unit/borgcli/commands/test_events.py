import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from borgcli import main as main_module
from borgcore.run.folder import RunFolder
from borgcore.run.record import RunRecord, write_record
from tests.limits import HANG_S
from tests.unit.borgcore.eventstore.database import store, writing

# where the tests run in the background, a shell has had them ignore SIGINT, and their children would inherit that
HEEDS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
BORG = (sys.executable, "-c", f"{HEEDS_CTRL_C}; from borgcli.main import main; main()", "events")


def document(number: int, **fields: object) -> str:
    at = datetime.now(UTC) - timedelta(hours=10 if number < 5 else 0)  # longer than the tests run
    stamp = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"@timestamp": stamp, "event": "episode_ended", "agent": 1 + number % 2, "n": number, **fields})


DOCUMENTS = [document(number) for number in range(10)]
SAMPLE = json.dumps({"@timestamp": "2026-11-22T12:00:00.000Z", "event": "memory_sampled", "text": "Größe"})


LETTERS = [
    json.dumps({"@timestamp": "2026-11-22T12:00:01.000Z", "event": "record_refused", "reason": reason})
    for reason in ("it is not JSON", "it is nested 21 deep")
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """The newest of two runs, with ten episodes and a sample of its memory."""
    monkeypatch.chdir(tmp_path)
    old, new = RunFolder(Path("runs") / "old"), RunFolder(Path("runs") / "new")
    for folder in (old, new):
        folder.create()
        write_record(folder, RunRecord(game="catch", preset="tiny", agents=2, seed=0))
    with writing(new.events) as connection:
        store(connection, "training_log", DOCUMENTS)
        store(connection, "memory_monitoring", [SAMPLE])
        store(connection, "dead_letter", LETTERS)
    return new


def borg(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["borg", "events", *arguments])
    with pytest.raises(SystemExit) as ended:
        main_module.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "documents"),
    [
        ([], [*DOCUMENTS, SAMPLE]),
        (["--json", "--run", "new"], [*DOCUMENTS, SAMPLE]),
        (["--topic", "training_log"], DOCUMENTS),
        (["--topic", "memory_monitoring"], [SAMPLE]),
        (["--agent", "2"], DOCUMENTS[1::2]),
        (["--event", "memory_sampled"], [SAMPLE]),
        (["--event", "absent"], []),
        (["--dead-letters"], LETTERS),
        (["--dead-letters", "--last", "1"], LETTERS[1:]),
        (["--event", "record_refused"], []),
        (["--last", "2"], [DOCUMENTS[9], SAMPLE]),
        (["--agent", "1", "-n", "2"], [DOCUMENTS[6], DOCUMENTS[8]]),
        (["--since", "5h", "--agent", "1"], [DOCUMENTS[6], DOCUMENTS[8]]),
    ],
)
def test_where_no_terminal_is_the_chosen_documents_are_printed_as_stored(
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    arguments: list[str],
    documents: list[str],
) -> None:
    assert borg(monkeypatch, *arguments) == 0
    out, err = capfdbinary.readouterr()
    assert out == "".join(document + "\n" for document in documents).encode()
    assert err == b""


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--run", "absent"], 2, "there is no run absent in runs; borg runs lists what is there"),
        (["--run", "../new"], 2, "--run: found '../new'; expected up to 64 letters"),
        (["--run", "old"], 1, "run old has no events in runs/old/events.sqlite yet; --follow waits for them"),
        (["--runs-dir", "absent"], 2, "absent holds no run; borg up starts one"),
        (["--topic", "other"], 2, "'other' is not one of 'training_log', 'memory_monitoring'"),
        (["--dead-letters", "--agent", "1"], 2, "--dead-letters: found --topic, --agent or --event beside it"),
        (["--since", "soon"], 2, "--since: 'soon' is no duration"),
        (["--last", "-1"], 2, "'--last' / '-n': Input should be greater than or equal to 0"),
    ],
)
def test_what_cannot_be_printed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    assert borg(monkeypatch, *arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert text in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "text"), [(b"nothing of this kind" * 99, "is no database of events"), (b"", "has no events in")]
)
def test_a_file_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: RunFolder, *, content: bytes, text: str
) -> None:
    run.events.write_bytes(content)
    assert borg(monkeypatch) == 1
    assert text in capsys.readouterr().err


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str, stdout: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([*BORG, *arguments], cwd=tmp_path, stdout=stdout, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=HANG_S)


def lines_of(process: "subprocess.Popen[bytes]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().decode().rstrip("\n") for _ in range(count)]


def test_new_events_are_followed_until_ctrl_c(run: RunFolder, follow: Callable[..., "subprocess.Popen[bytes]"]) -> None:
    borg_events = follow("--follow", "--topic", "training_log", "--last", "1")
    assert lines_of(borg_events, 1) == DOCUMENTS[-1:]
    with writing(run.events) as connection:
        store(connection, "training_log", [document(10)])
        assert json.loads(lines_of(borg_events, 1)[0])["n"] == 10
        store(connection, "memory_monitoring", [SAMPLE])
        store(connection, "training_log", [document(11)])
        assert json.loads(lines_of(borg_events, 1)[0])["n"] == 11
        borg_events.send_signal(signal.SIGINT)
        out, err = borg_events.communicate(timeout=HANG_S)
    assert (out, err, borg_events.returncode) == (b"", b"", 0)


@pytest.mark.usefixtures("run")
def test_events_that_are_not_there_yet_are_waited_for(
    tmp_path: Path, follow: Callable[..., "subprocess.Popen[bytes]"]
) -> None:
    borg_events = follow("--run", "old", "-f")
    with writing(tmp_path / "runs" / "old" / "events.sqlite") as connection:
        store(connection, "training_log", DOCUMENTS[:3])
        assert lines_of(borg_events, 3) == DOCUMENTS[:3]
    borg_events.send_signal(signal.SIGINT)
    _, err = borg_events.communicate(timeout=HANG_S)
    assert (err, borg_events.returncode) == (b"", 0)


@pytest.mark.parametrize("arguments", [(), ("--follow",)])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(
    run: RunFolder, follow: Callable[..., "subprocess.Popen[bytes]"], arguments: tuple[str, ...]
) -> None:
    with writing(run.events) as connection:
        store(connection, "training_log", [document(0, long="x" * 1000)] * 500)  # more than a pipe holds
    borg_events = follow(*arguments)
    assert lines_of(borg_events, 1) == DOCUMENTS[:1]
    assert borg_events.stdout is not None
    borg_events.stdout.close()
    assert borg_events.wait(HANG_S) == 0
    assert borg_events.stderr is not None
    assert borg_events.stderr.read() == b""


@pytest.mark.usefixtures("run")
def test_a_reader_that_leaves_when_there_is_nothing_new_ends_it_too(
    follow: Callable[..., "subprocess.Popen[bytes]"],
) -> None:
    borg_events = follow("--follow", "-n", "1")
    assert lines_of(borg_events, 1) == [SAMPLE]
    assert borg_events.stdout is not None
    borg_events.stdout.close()
    assert borg_events.wait(HANG_S) == 0


@pytest.mark.usefixtures("run")
def test_on_a_terminal_an_event_is_a_line_to_read(follow: Callable[..., "subprocess.Popen[bytes]"]) -> None:
    reader, terminal = os.openpty()
    try:
        borg_events = follow("--last", "2", stdout=terminal)
        assert borg_events.wait(HANG_S) == 0
        written = os.read(reader, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(reader)
    episode, sample = written.splitlines()
    assert "agent 2" in episode
    assert "episode_ended" in episode
    assert "n=" in episode
    assert "memory_sampled" in sample
    assert "{" not in written
