"""The agent: holds a number, plays, pushes, and trains if its number is the learner's.

    act -> push                                             transitions go into the run's replay memory
    follow                                                  newer published weights replace the actor's
    sample -> train -> reprioritise, publish, checkpoint    in the agent that trains (stages/learning.py)

In the background: the lease on the number and the election of the learner (stages/election.py), and a report every
second (telemetry/reporting.py).
"""

from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import anyio
import torch
from anyio import CancelScope, create_memory_object_stream, to_thread
from anyio.abc import TaskGroup
from redis.asyncio import Redis

from borgagent.dqn.actor import Actor, Rollout
from borgagent.dqn.build import build_actor, build_learner, build_network, count_actions, current_epsilon, draw_seed
from borgagent.dqn.learner import Learner, choose_device
from borgagent.dqn.network import QNetwork
from borgagent.settings import AgentOverrides, AgentSettings
from borgagent.stages.acting import act, follow, push
from borgagent.stages.election import LearnerNotNeeded, join
from borgagent.stages.learning import Learning
from borgagent.takeover import owner_of, take_over
from borgagent.telemetry.events import episodes_ended, publish_run
from borgagent.telemetry.metrics import agent_metrics
from borgagent.telemetry.reporting import Reporter
from borgagent.telemetry.state import AgentState
from borgcore.connection.client import address_of, open_redis
from borgcore.eventlog.metrics import publisher_metrics
from borgcore.eventlog.publisher import Publisher, open_publisher
from borgcore.replay import ReplaySpec, Transition, open_replay
from borgcore.service.health import Health, open_health

_MAX_PENDING = 2  # chunks of play waiting to be pushed


async def serve(settings: AgentSettings, intake: CancelScope) -> None:
    """Play and learn until ``intake`` is cancelled, then push what was played and train on what was sampled.

    Raises:
        ServerError: Redis was away, or did not answer, for longer than the settings allow.
    """
    torch.set_num_threads(settings.learner.threads)
    spec = settings.spec(await to_thread.run_sync(count_actions, settings.game, settings.environment))
    device = choose_device(settings.device)
    async with (
        open_health(settings.health_address) as health,
        open_publisher(settings.events, settings.run, settings.service) as publisher,
        open_redis(settings.redis) as redis,
    ):
        health.export(partial(publisher_metrics, publisher))
        with suppress(LearnerNotNeeded):
            await _join_run(redis, settings, intake, spec=spec, device=device, publisher=publisher, health=health)


async def _join_run(
    redis: Redis,
    settings: AgentSettings,
    intake: CancelScope,
    *,
    spec: ReplaySpec,
    device: torch.device,
    publisher: Publisher,
    health: Health,
) -> None:
    """Hold a number in the run while the stages run, and report on them."""
    async with (
        open_replay(redis, settings.run, spec, settings.seeded_replay) as replay,
        join(redis, settings, intake) as membership,
    ):
        state = AgentState(settings, membership, replay)
        health.export(partial(agent_metrics, state))
        reporter = Reporter(redis, publisher, state)
        with publish_run(publisher, state, device, address_of(redis)):
            async with anyio.create_task_group() as background:
                background.start_soon(membership.hold)
                background.start_soon(reporter.publish)
                background.start_soon(reporter.write)
                background.start_soon(reporter.keep_ready, health)
                await Agent(redis, publisher, state, device).run(intake, background)
                background.cancel_scope.cancel()


@dataclass(frozen=True)
class Agent:
    """The stages of one agent, and what they share."""

    redis: Redis
    publisher: Publisher
    state: AgentState
    device: torch.device

    async def run(self, intake: CancelScope, background: TaskGroup) -> None:
        """Run the stages until ``intake`` is cancelled: acting and sampling end, then the later stages run dry."""
        settings, acting = self.state.settings, self.state.acting
        send, receive = create_memory_object_stream[list[Transition]](_MAX_PENDING)
        actor = await to_thread.run_sync(self._build_actor) if settings.learn != "only" else None
        async with anyio.create_task_group() as stages:
            stages.start_soon(push, self.state.replay, receive)
            async with send:
                with intake:
                    async with anyio.create_task_group() as sources:
                        if actor is not None:
                            background.start_soon(follow, self.redis, self._weights_key(), actor, acting)
                            sources.start_soon(
                                act, actor, self._wait_for_turn, send, acting, self._epsilon, self._record
                            )
                        if settings.learn != "never":
                            sources.start_soon(self._learn, stages)

    async def _learn(self, stages: TaskGroup) -> None:
        """Wait until this agent is the one that trains, take over from the previous learner, then train."""
        settings, membership, replay = self.state.settings, self.state.membership, self.state.replay
        learner = await to_thread.run_sync(self._build_learner)  # takes seconds, so not only once elected
        await membership.learns.wait()
        owner = owner_of(settings, membership.number)
        await take_over(self.redis, learner, settings, replay.spec, owner)
        learning = Learning(self.redis, replay, learner, settings, owner)
        self.state.learning = learning.progress
        await learning.run(stages)

    async def _wait_for_turn(self) -> bool:
        """Wait for the rate limiter; the agent that trains acts only when the others fall behind."""
        return await self.state.replay.wait_to_insert(gives_way=self.state.membership.learns.is_set())

    def _record(self, rollout: Rollout, weights_version: int) -> None:
        """Publish the episodes that ended, then count the chunk."""
        for event in episodes_ended(self.state, rollout, weights_version):
            self.publisher.publish(event)
        self.state.acting.count(rollout)

    def _build_actor(self) -> Actor:
        settings, own = self.state.settings, self._overrides()
        view = settings.environment if own.envs is None else settings.environment.model_copy(update={"envs": own.envs})
        entropy = [settings.seed, self.state.membership.number] if own.seed is None else [own.seed]
        seed = draw_seed([*entropy, self.state.replay.inserted])  # a resumed run must not repeat its episodes
        return build_actor(settings.game, view, self._build_network(), settings.actor, seed)

    def _build_learner(self) -> Learner:
        return build_learner(self._build_network(), self.state.settings.learner, self.device)

    def _build_network(self) -> QNetwork:
        settings = self.state.settings
        return build_network(settings.network, self.state.replay.spec, settings.seed, self.device)

    def _epsilon(self) -> float:
        """Return epsilon at the run's present number of transitions."""
        own, membership = self._overrides(), self.state.membership
        if own.epsilon is not None:
            return own.epsilon
        return current_epsilon(
            self.state.settings.actor,
            number=membership.number,
            agents=membership.agents,
            inserted=self.state.replay.inserted,
        )

    def _overrides(self) -> AgentOverrides:
        return self.state.settings.agents.get(self.state.membership.number, AgentOverrides())

    def _weights_key(self) -> str:
        settings = self.state.settings
        return settings.keys.weights(owner_of(settings, self.state.membership.number))
