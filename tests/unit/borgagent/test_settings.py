import os
from pathlib import Path

import pytest
import torch

from borgagent.dqn.presets import PRESETS
from borgagent.settings import AgentSettings
from borgcore.errors import SettingsError


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("BORG_"):
            monkeypatch.delenv(name)


def cuda(monkeypatch: pytest.MonkeyPatch, *, there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


def refusal(*arguments: str) -> str:
    with pytest.raises(SettingsError) as caught:
        AgentSettings.load(arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("game", "there", "network", "side"),
    [
        ("catch", False, "tiny", 10),
        ("catch", True, "tiny", 10),
        ("pong", False, "small", 42),
        ("pong", True, "nature", 84),
    ],
)
def test_the_preset_follows_the_game_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, game: str, there: bool, network: str, side: int
) -> None:
    cuda(monkeypatch, there=there)
    settings = AgentSettings.load(["--game", game])
    assert (settings.network, settings.environment.height) == (network, side)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_fits_the_settings(name: str) -> None:
    game = "catch" if name == "tiny" else "breakout"
    settings = AgentSettings.load(["--game", game, "--preset", name])
    assert settings.learner.batch_size == PRESETS[name]["learner"]["batch_size"]
    assert settings.replay.capacity == PRESETS[name]["replay"]["capacity"]
    assert settings.actor.gamma == 0.99  # a preset leaves the other settings of a section as they are


def test_command_line_over_environment_over_file_over_preset_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--preset", "small"]
    assert AgentSettings.model_fields["learner"].default.batch_size == 32
    assert AgentSettings.load(arguments).learner.batch_size == 128
    path = tmp_path / "borg.toml"
    path.write_text("[agent.learner]\nbatch_size = 65\ntarget_rate = 0.65\n")
    arguments += ["--config", str(path)]
    assert AgentSettings.load(arguments).learner.batch_size == 65
    monkeypatch.setenv("BORG_AGENT_LEARNER__BATCH_SIZE", "66")
    assert AgentSettings.load(arguments).learner.batch_size == 66
    settings = AgentSettings.load([*arguments, "--learner.batch-size", "67"])
    assert settings.learner.batch_size == 67
    assert settings.learner.target_rate == 0.65
    assert settings.learner.learning_rate == 1e-3  # from the preset


def test_the_preset_follows_a_game_from_the_file_and_a_preset_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "borg.toml"
    path.write_text('[agent]\ngame = "catch"\n')
    assert AgentSettings.load(["--config", str(path)]).network == "tiny"
    monkeypatch.setenv("BORG_AGENT_GAME", "breakout")
    monkeypatch.setenv("BORG_AGENT_PRESET", "nature")
    assert AgentSettings.load(["--config", str(path)]).network == "nature"


@pytest.mark.parametrize(("preset", "game"), [("tiny", "pong"), ("small", "catch"), ("nature", "catch")])
def test_a_preset_that_is_not_for_the_game_is_refused_with_both_names(preset: str, game: str) -> None:
    assert refusal("--preset", preset, "--game", game) == (
        f"preset {preset} does not fit {game}: tiny is for catch, small and nature are for Atari; nothing was started"
    )


def test_an_unknown_preset_is_refused_with_the_known_ones() -> None:
    assert refusal("--preset", "huge") == (
        "preset: found 'huge'; input should be 'auto', 'tiny', 'small' or 'nature'; nothing was started"
    )


@pytest.mark.parametrize(("game", "capacity", "min_size"), [("pong", 5_000, 10_000), ("catch", 499, 500)])
def test_a_capacity_below_the_presets_first_sample_is_refused_with_what_to_lower(
    monkeypatch: pytest.MonkeyPatch, game: str, capacity: int, min_size: int
) -> None:
    cuda(monkeypatch, there=False)
    arguments = ["--game", game, "--replay.capacity", str(capacity)]
    assert refusal(*arguments) == (
        f"replay: capacity is {capacity}, below min_size {min_size}: learner and actors would wait for each other "
        "forever; raise the capacity or lower min_size (--replay.min-size or BORG_AGENT_REPLAY__MIN_SIZE); "
        "nothing was started"
    )
    monkeypatch.setenv("BORG_AGENT_REPLAY__MIN_SIZE", str(capacity))
    assert AgentSettings.load(arguments).replay.min_size == capacity


def test_single_agents_overrides_are_read_by_number(tmp_path: Path) -> None:
    path = tmp_path / "borg.toml"
    path.write_text("[agents.2]\nepsilon = 0.25\n[agents.3]\nseed = 7\nenvs = 1\n")
    agents = AgentSettings.load(["--config", str(path)]).agents
    assert agents[2].epsilon == 0.25
    assert (agents[3].seed, agents[3].envs, agents[3].epsilon) == (7, 1, None)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("[agents.2]\nepsilo = 0.25", "agents.2.epsilo is no setting; the nearest name is epsilon"),
        ("[agents.2]\nepsilon = 2.0", "agents.2.epsilon: found 2.0; input should be less than or equal to 1"),
        ("[learnr]\nbatch_size = 3", "{path}: no table is named learnr; the nearest name is learner"),
        ("[agent.learner]\nbatch = 3", "learner.batch is no setting; the nearest name is batch_size"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(tmp_path: Path, document: str, text: str) -> None:
    path = tmp_path / "borg.toml"
    path.write_text(document)
    assert refusal("--config", str(path)) == f"{text.format(path=path)}; nothing was started"


def test_checkpoints_lie_in_the_runs_folder_and_private_learners_in_their_own() -> None:
    settings = AgentSettings.load(["--run", "r1"])
    assert settings.checkpoints_of(None) == Path("runs/r1/checkpoints")
    assert settings.checkpoints_of(2) == Path("runs/r1/checkpoints/2")
    assert AgentSettings.load(["--checkpoint-dir", "here"]).checkpoints_of(None) == Path("here")


def test_help_says_units_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        AgentSettings.load(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "Time between published weights, seconds." in text
    assert "Transitions per train step; Mnih et al. 2015." in text
