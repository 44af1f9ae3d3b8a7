import io
from dataclasses import replace

import pytest
from rich.console import Console
from rich.live import Live

from borgcli.screen.display import PlainDisplay, TerminalDisplay
from borgcli.screen.figures import format_bytes, render_line, render_table
from borgcli.screen.progress import RunProgress, warmup_size
from borgcore.events.training import LearnerReported
from borgcore.replay import ReplayStats
from borgcore.run.reports import AgentReport, mean_return
from tests.reports import report_of

LEARNER = LearnerReported(
    agent=1,
    updates=1234,
    updates_per_s=45.6,
    samples_per_s=45.6 * 64,
    loss=0.0123,
    mean_q=0.5,
    wait_share=0.03,
    limiter_share=0.25,
    batch_size=64,
)
STATS = ReplayStats(
    size=4000, capacity=500_000, inserted=5000, sampled=40_000, bytes=2 << 20, maxmemory=1 << 30, used_memory=3 << 20
)


def report(agent: int, returns: list[float], **fields: object) -> AgentReport:
    recent = tuple((float(agent + 10 * number), value) for number, value in enumerate(returns))
    given = {"pid": 100 + agent, "at_s": 1000.0, "steps": 12_345, "steps_per_s": 512.4, "epsilon": 0.85, **fields}
    return_20 = mean_return(recent, 20)
    return report_of(agent=agent, episodes=len(returns), return_20=return_20, recent=recent, **given)


PROGRESS = RunProgress(
    run="one",
    game="pong",
    agents=2,
    now_s=1001.0,
    elapsed_s=65.0,
    for_s=600.0,
    warmup=10_000,
    reports=[report(1, [-20.0] * 20, learner=LEARNER), report(2, [-21.0] * 100, at_s=900.0)],
    stats=STATS,
)


def text_of(progress: RunProgress) -> str:
    console = Console(file=io.StringIO(), width=140)
    console.print(render_table(progress))
    written: str = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    return written


def test_the_table_shows_agents_learner_memory_and_time() -> None:
    lines = text_of(PROGRESS).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.strip()}
    assert rows["one"] == ["one", "(pong)", "0:01:05,", "0:08:55", "left"]
    assert rows["1"] == ["1", "*", "learner", "12,345", "512", "20", "-20.00", "-", "0.8500", "7"]
    assert rows["2"] == ["2", "12,345", "512", "100", "-21.00", "-21.00", "0.8500", "7"]
    assert lines[-2].startswith(
        "learner: 1,234 updates of 64, 45.6/s, 2,918 samples/s, loss 0.0123, mean Q 0.500, waiting for data 3.0%"
    )
    assert lines[-1].strip() == (
        "memory: 4,000 of 500,000 transitions, 2.0 MiB, 524 bytes each, 8.00 samples per insert"
    )


def test_the_plain_line_has_the_same_facts() -> None:
    line = render_line(PROGRESS)
    assert "\n" not in line
    for fact in (
        "one (pong) 0:01:05, 0:08:55 left",
        "agent 1 * learner",
        "steps/s 512",
        "return 20 -20.00",
        "learning",
    ):
        assert fact in line
    assert "samples per insert" in line


def test_the_return_that_is_judged_is_over_the_newest_episodes_of_all_agents() -> None:
    early = [report(1, [0.0] * 15), report(2, [1.0] * 4)]
    assert replace(PROGRESS, reports=early).pooled_return is None
    late = [report(1, [0.0] * 15), report(2, [1.0] * 15)]
    assert replace(PROGRESS, reports=late).pooled_return == pytest.approx(0.5)


def test_agents_that_explore_for_good_are_not_judged() -> None:
    ladder = {1: 0.4, 2: 0.047, 3: 0.01, 4: 0.01}
    reports = [report(n, [-21.0 if n == 1 else 18.0] * 10, epsilon=epsilon) for n, epsilon in ladder.items()]
    assert replace(PROGRESS, reports=reports).pooled_return == 18.0
    assert replace(PROGRESS, reports=reports[:2]).pooled_return is None, "ten episodes are too few"
    annealing = [report(n, [float(n)] * 10, epsilon=max(epsilon, 0.3)) for n, epsilon in ladder.items()]
    assert replace(PROGRESS, reports=annealing).pooled_return == 2.5, "while all explore, all are judged"


@pytest.mark.parametrize(
    ("change", "phase"),
    [
        ({"reports": (), "stats": None}, "starting 2 agents"),
        ({"reports": (report(1, []),)}, "agents warm up: 4,000 of 10,000 transitions before learning"),
        ({"reports": (report(1, []),), "stats": replace(STATS, size=20_000)}, "the learner begins"),
        ({"answering": False}, "Redis does not answer"),
        ({}, "learning"),
    ],
)
def test_the_phase_says_what_the_run_is_busy_with(change: dict[str, object], phase: str) -> None:
    progress = replace(PROGRESS, **change)  # type: ignore[arg-type]  # by name
    assert progress.phase == phase
    assert phase in text_of(progress)


def test_a_preset_says_how_much_is_stored_before_learning() -> None:
    assert warmup_size("small") == 10_000
    assert warmup_size("tiny") == 500


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")])
def test_a_size_is_written_in_the_unit_that_suits_it(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_plain_lines_come_once_per_period_and_phases_when_they_change() -> None:
    file = io.StringIO()
    display = PlainDisplay(Console(file=file, width=20))
    for _ in range(3):
        display.show(PROGRESS)
        display.show_phase("loading: 1 %")
    display.show_phase("loading: 2 %")
    display.show_phase("starting")
    lines = file.getvalue().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == [render_line(PROGRESS), "loading: 1 %", "starting"]


def test_the_newest_figures_are_printed_at_the_end_once() -> None:
    file = io.StringIO()
    display = PlainDisplay(Console(file=file))
    display.show(PROGRESS)
    last = replace(PROGRESS, elapsed_s=70.0)
    display.show(last)
    display.close()
    display.close()
    assert [line.split(" ", 1)[1] for line in file.getvalue().splitlines()] == [
        render_line(PROGRESS),
        render_line(last),
    ]


def test_a_terminal_keeps_its_figures_while_the_run_stops() -> None:
    written = io.StringIO()
    console = Console(file=written, width=140, force_terminal=True, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        display = TerminalDisplay(console, live)
        display.show(PROGRESS)
        written.truncate(0)
        display.show_phase("stopping: time over")
    assert "stopping: time over" in written.getvalue()
    assert "1 * learner" in written.getvalue()


def test_a_terminal_shows_the_table_below_what_was_said() -> None:
    file = io.StringIO()
    console = Console(file=file, width=140, force_terminal=True, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        display = TerminalDisplay(console, live)
        display.show_phase("starting Valkey")
        display.show(PROGRESS)
        display.say("agent [1] died")
    written = file.getvalue()
    assert "starting Valkey" in written
    assert "agent [1] died" in written
    assert "1 * learner" in written


def test_a_display_whose_terminal_was_closed_does_not_end_the_run() -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(5, "Input/output error")

    PlainDisplay(Console(file=Gone())).say("still here")
