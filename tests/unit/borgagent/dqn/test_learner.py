from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from borgagent.dqn.learner import (
    Tensors,
    choose_device,
    double_q_target,
    td_loss,
    td_targets,
)
from borgagent.dqn.network import QNetwork
from borgcore.replay import Batch, ReplaySpec
from tests.unit.borgagent.dqn.learners import EAGER, A, B, H, S, W, batch_of, learner_of, same


class Table(nn.Module):
    """Q values read from the first pixel's row of a table."""

    def __init__(self, rows: list[list[float]]) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows))

    def forward(self, obs_BSHW: Tensor) -> Tensor:
        return self.values(self.centred(obs_BSHW))

    def centred(self, obs_BSHW: Tensor) -> Tensor:
        return obs_BSHW

    def values(self, obs_BSHW: Tensor) -> Tensor:
        return self.rows[obs_BSHW[:, 0, 0, 0].long()]


def pixel(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1, 1)


def test_the_target_is_chosen_by_the_online_and_valued_by_the_target_network() -> None:
    online_BA = torch.tensor([[1.0, 5.0, 2.0], [9.0, 0.0, 0.0], [0.0, 0.0, 3.0]])
    target_BA = torch.tensor([[100.0, 10.0, 50.0], [4.0, 99.0, 99.0], [7.0, 8.0, 9.0]])
    reward_B, discount_B = torch.tensor([1.0, -1.0, 0.5]), torch.tensor([0.5, 0.25, 0.0])
    target_B = double_q_target(online_BA, target_BA, reward_B, discount_B)
    assert target_B.tolist() == [6.0, 0.0, 0.5]  # 1 + 0.5 * 10; -1 + 0.25 * 4; terminated


def loss_of(online: QNetwork, target: QNetwork, batch: Tensors) -> tuple[Tensor, Tensor, Tensor]:
    return td_loss(online, batch, td_targets(online, target, batch))


def test_loss_td_errors_and_q_values_are_as_computed_by_hand() -> None:
    online: Any = Table([[1.0, 2.0], [3.0, 0.0]])
    target: Any = Table([[10.0, 20.0], [30.0, 40.0]])
    # obs 0, action 1: q 2; next 1: online prefers 0, worth 30: target 1 + 0.1 * 30 = 4, error 2, Huber 1.5
    # obs 1, action 0: q 3; terminated: target 2.5, error -0.5, Huber 0.125
    batch = (
        pixel([0, 1]),
        pixel([1, 0]),
        torch.tensor([1, 0]),
        torch.tensor([1.0, 2.5]),
        torch.tensor([0.1, 0.0]),
        torch.tensor([1.0, 0.4]),
    )
    loss, td_error_B, q_B = loss_of(online, target, batch)
    assert td_error_B.tolist() == pytest.approx([2.0, -0.5])
    assert q_B.tolist() == [2.0, 3.0]
    assert loss.item() == pytest.approx((1.0 * 1.5 + 0.4 * 0.125) / 2)


def test_no_gradient_flows_through_the_td_target() -> None:
    online: Any = Table([[1.0, 2.0], [3.0, 0.0]])
    target: Any = Table([[1.0, 2.0], [3.0, 0.0]])
    one = torch.ones(1)
    loss = loss_of(online, target, (pixel([0]), pixel([1]), torch.tensor([0]), one, one, one))[0]
    loss.backward()  # type: ignore[no-untyped-call]  # torch
    assert online.rows.grad[0].tolist() != [0.0, 0.0]
    assert online.rows.grad[1].tolist() == [0.0, 0.0]
    assert target.rows.grad is None


def test_a_weight_of_0_takes_a_transition_out_of_the_update() -> None:
    weighed, spoiled = list(batch_of()), list(batch_of())
    weighed[5] = spoiled[5] = torch.cat((torch.ones(B // 2), torch.zeros(B // 2)))
    spoiled[3] = weighed[3].clone()
    spoiled[3][B // 2 :] = 100.0
    one, other = learner_of(), learner_of()
    one.train(tuple(weighed))  # type: ignore[arg-type]  # six, as before
    other.train(tuple(spoiled))  # type: ignore[arg-type]
    assert same(one.online, other.online)


def test_the_target_network_is_the_moving_average_of_the_online_one() -> None:
    learner = learner_of()
    assert same(learner.target, learner.online)
    expected = [tensor.clone() for tensor in learner.target.parameters()]
    for seed in range(3):
        learner.train(batch_of(seed))
        for average, newest in zip(expected, learner.online.parameters(), strict=True):
            average.lerp_(newest.detach(), 0.25)
    assert learner.updates == 3
    for average, target in zip(expected, learner.target.parameters(), strict=True):
        torch.testing.assert_close(target.detach(), average)
    assert not same(learner.target, learner.online)


def test_weights_to_publish_are_those_of_the_average() -> None:
    learner = learner_of()
    learner.train(batch_of())
    weights = learner.weights()
    assert set(weights) == set(learner.target.state_dict())
    for name, tensor in learner.target.state_dict().items():
        np.testing.assert_array_equal(weights[name], tensor.numpy())


def test_gradients_are_scaled_down_to_the_greatest_norm() -> None:
    learner = learner_of(EAGER.model_copy(update={"max_grad_norm": 1e-3}))
    learner.train(batch_of())
    norm = torch.cat([p.grad.flatten() for p in learner.online.parameters() if p.grad is not None]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)


def test_training_on_one_batch_lowers_its_loss() -> None:
    learner = learner_of(EAGER.model_copy(update={"target_rate": 0.001}))
    first = last = learner.train(batch_of())
    for _ in range(100):
        last = learner.train(batch_of())
    assert last.loss < 0.1 * first.loss
    assert last.td_error_B.dtype == np.float32
    assert abs(last.td_error_B).mean() < abs(first.td_error_B).mean()


def test_what_a_step_reports_is_of_the_network_before_the_step() -> None:
    learner, batch = learner_of(), batch_of()
    with torch.no_grad():
        loss, td_error_B, q_B = loss_of(learner.online, learner.target, batch)
    trained = learner.train(batch)
    assert trained.loss == pytest.approx(loss.item())
    assert trained.mean_q == pytest.approx(q_B.mean().item())
    np.testing.assert_allclose(trained.td_error_B, td_error_B.numpy(), rtol=1e-5)


def test_one_seed_gives_the_same_weights() -> None:
    one, other = learner_of(), learner_of()
    for seed in range(5):
        one.train(batch_of(seed))
        other.train(batch_of(seed))
    assert same(one.online, other.online)


def test_centring_changes_both_networks_to_the_mean_image() -> None:
    learner = learner_of()
    frames = np.random.default_rng(0).integers(0, 256, (50, S, H, W), np.uint8)
    learner.centre_on([frames])
    for network in (learner.online, learner.target):
        np.testing.assert_allclose(network.mean_HW.numpy(), frames.mean(axis=(0, 1)), rtol=1e-5)


def test_weights_taken_over_are_played_and_valued_with() -> None:
    learner, other = learner_of(seed=0), learner_of(seed=1)
    other.train(batch_of())
    learner.load_weights(other.weights())
    assert same(learner.online, other.target)
    assert same(learner.target, other.target)


def test_a_batch_is_handed_over_without_a_copy_on_the_cpu() -> None:
    learner = learner_of()
    batch = Batch.empty(ReplaySpec("catch", S, H, W, 1, A, 0.99), B, learner.allocate)
    obs_BSHW = learner.upload(batch)[0]
    batch.obs_BSHW[:] = 7
    assert (obs_BSHW == 7).all()


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_cuda_where_it_is_asked_for_or_there(
    monkeypatch: pytest.MonkeyPatch, asked: Any, there: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(asked).type == chosen
