"""The events that an agent publishes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch

from borgagent.dqn.actor import Rollout
from borgagent.dqn.presets import choose_preset
from borgagent.telemetry.redaction import redact
from borgagent.telemetry.state import AgentState
from borgcore.connection.failures import leaves_of, user_error
from borgcore.eventlog.publisher import Publisher
from borgcore.events.training import EpisodeEnded, RunEnded, RunStarted
from borgcore.run.reports import AgentReport

_VERSION = version("borgagent")  # at import, since it reads the disk


@contextmanager
def publish_run(publisher: Publisher, state: AgentState, device: torch.device, address: str) -> Iterator[None]:
    """Publish run_started, and at the end of the block run_ended with its reason; ``address`` is that of Redis."""
    publisher.agent = state.membership.number
    publisher.publish(run_started(state, device))
    reason = "asked"
    try:
        yield
    except BaseException as error:
        reason = describe_end(error, address)
        raise
    finally:
        publisher.publish(run_ended(state, reason))


def publish_report(publisher: Publisher, report: AgentReport) -> None:
    """Publish the events in a report, under the agent's present number."""
    publisher.agent = report.agent  # changes when the agent is elected
    for event in report.events:
        publisher.publish(event)


def run_started(state: AgentState, device: torch.device) -> RunStarted:
    """Describe the run that this process starts or resumes."""
    settings = state.settings
    return RunStarted(
        agent=state.membership.number,
        pid=os.getpid(),
        game=settings.game,
        preset=choose_preset(settings.preset, settings.game, cuda=device.type == "cuda"),
        learn=settings.learn,
        device=device.type,
        version=_VERSION,
        settings=redact(settings),
    )


def run_ended(state: AgentState, reason: str) -> RunEnded:
    """Summarise what this process did."""
    return RunEnded(
        agent=state.membership.number,
        pid=os.getpid(),
        steps=state.acting.steps,
        episodes=state.acting.episodes,
        duration_s=round(time.monotonic() - state.began_s, 3),
        reason=reason,
    )


def describe_end(error: BaseException, address: str) -> str:
    """Return the reason for an end in one line; for a bug only its type, since the service's own log has the rest."""
    explained = user_error(error, address)
    if explained is not None:
        return " ".join(str(explained).split())
    if not isinstance(error, Exception):
        return "cut off before it had finished"
    return f"a defect: {type(next(leaves_of(error))).__name__}"


def episodes_ended(state: AgentState, rollout: Rollout, weights_version: int) -> list[EpisodeEnded]:
    """Return the episodes that ended in ``rollout``, which ``state`` does not count yet."""
    acting = state.acting
    return [
        EpisodeEnded(
            agent=state.membership.number,
            episode=number,
            episode_return=episode.score,
            episode_steps=episode.steps,
            truncated=episode.truncated,
            steps=acting.steps + episode.ended_at,
            inserted=state.replay.inserted,
            epsilon=acting.epsilon,
            weights_version=weights_version,
        )
        for number, episode in enumerate(rollout.episodes, acting.episodes + 1)
    ]
