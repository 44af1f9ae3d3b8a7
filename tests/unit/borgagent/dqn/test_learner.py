import shutil
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from borgagent.dqn.learner import (
    Learner,
    Tensors,
    choose_device,
    double_q_target,
    has_bfloat16,
    td_loss,
    td_targets,
)
from borgagent.dqn.network import QNetwork
from borgagent.dqn.settings import LearnerSettings
from borgcore.replay import Batch, ReplaySpec
from tests.limits import LONG_TEST_TIMEOUT_S

CPU = torch.device("cpu")
EAGER = LearnerSettings(compile="never", learning_rate=1e-3, target_rate=0.25)
B, S, H, W, A = 16, 1, 10, 5, 3


def learner_of(settings: LearnerSettings = EAGER, seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    return Learner(QNetwork("tiny", S, H, W, A), settings, CPU)


def batch_of(seed: int = 0) -> Tensors:
    rng = np.random.default_rng(seed)
    return (
        torch.from_numpy(rng.integers(0, 256, (B, S, H, W), np.uint8)),
        torch.from_numpy(rng.integers(0, 256, (B, S, H, W), np.uint8)),
        torch.from_numpy(rng.integers(0, A, B)),
        torch.from_numpy(rng.uniform(-1, 1, B).astype(np.float32)),
        torch.full((B,), 0.9),
        torch.ones(B),
    )


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(mine, others) for mine, others in pairs)


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


def test_compile_never_says_so_and_trains_eagerly() -> None:
    learner = learner_of()
    assert learner.compile(batch_of()) == "the settings say never"
    assert learner._loss is td_loss


def test_without_a_compiler_training_is_eager_and_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    learner = learner_of(EAGER.model_copy(update={"compile": "auto"}))
    assert learner.compile(batch_of()) == "no C++ compiler was found"
    learner.train(batch_of())


def test_where_compiling_fails_training_is_eager_and_nothing_is_left_of_the_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_loss: object, *, dynamic: bool, options: dict[str, Any]) -> Any:
        del dynamic, options

        def compiled(online: QNetwork, *_: Any) -> Any:
            online(batch_of()[0]).sum().backward()
            raise RuntimeError("the compiler crashed\nwith many lines")

        return compiled

    monkeypatch.setattr(shutil, "which", lambda _name: "c++")
    monkeypatch.setattr(torch, "compile", broken)
    learner, untried = learner_of(EAGER.model_copy(update={"compile": "auto"})), learner_of()
    assert learner.compile(batch_of()) == "RuntimeError: the compiler crashed"
    learner.train(batch_of())
    untried.train(batch_of())
    assert same(learner.online, untried.online)


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)  # compiling takes long on busy cores
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on PATH")
@pytest.mark.filterwarnings("default")  # torch's compiler emits warnings
def test_the_compiled_train_step_equals_the_eager_one_and_is_compiled_once() -> None:
    settings = EAGER.model_copy(update={"compile": "auto", "precision": "float32"})
    compiled, eager = learner_of(settings), learner_of()
    assert compiled.compile(batch_of()) is None
    assert compiled._loss is not td_loss
    assert same(compiled.online, eager.online)
    with torch.compiler.set_stance("fail_on_recompile"):  # compiling again would hold training up
        for seed in range(5):
            mine, others = compiled.train(batch_of(seed)), eager.train(batch_of(seed))
            np.testing.assert_allclose(mine.td_error_B, others.td_error_B, rtol=1e-4, atol=1e-5)
            assert (mine.loss, mine.mean_q) == pytest.approx((others.loss, others.mean_q), rel=1e-4, abs=1e-5)
    for network, other in ((compiled.online, eager.online), (compiled.target, eager.target)):
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, other.state_dict()[name], rtol=1e-4, atol=1e-4, msg=name)
    assert not same(compiled.online, learner_of().online)


@pytest.mark.timeout(LONG_TEST_TIMEOUT_S)
@pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no C++ compiler on PATH")
@pytest.mark.skipif(not has_bfloat16(torch.device("cpu")), reason="the processor has no bfloat16")
@pytest.mark.filterwarnings("default")  # torch's compiler emits warnings
def test_compiled_on_a_processor_with_bfloat16_the_step_uses_it_and_stays_near_the_eager_one() -> None:
    compiled, eager = learner_of(EAGER.model_copy(update={"compile": "auto"})), learner_of()
    assert compiled.compile(batch_of()) is None
    mine, others = compiled.train(batch_of()), eager.train(batch_of())
    assert mine.td_error_B.dtype == np.float32
    assert not np.array_equal(mine.td_error_B, others.td_error_B)
    np.testing.assert_allclose(mine.td_error_B, others.td_error_B, atol=0.03)
    assert {tensor.dtype for tensor in compiled.online.state_dict().values()} == {torch.float32}


def test_no_cast_weight_is_kept_where_other_threads_would_find_it() -> None:
    learner = learner_of(EAGER.model_copy(update={"precision": "bfloat16"}))
    with learner._autocast(bfloat16=True):
        assert not torch.is_autocast_cache_enabled()


@pytest.mark.parametrize(
    ("found", "device", "expected"),
    [({"avx512_bf16": True}, "cpu", True), ({"amx_bf16": True}, "cpu", True), ({}, "cpu", False),
     ({"avx512_bf16": True}, "cuda", False)],
)  # fmt: skip
def test_bfloat16_is_there_where_the_processor_says_so(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, bool], device: str, *, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    assert has_bfloat16(torch.device(device)) is expected


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


def test_bfloat16_trains_too() -> None:
    learner = learner_of(EAGER.model_copy(update={"precision": "bfloat16"}))
    first = last = learner.train(batch_of())
    for _ in range(50):
        last = learner.train(batch_of())
    assert last.loss < first.loss
    assert last.td_error_B.dtype == np.float32


@pytest.mark.parametrize(
    ("asked", "there", "chosen"),
    [("auto", True, "cuda"), ("auto", False, "cpu"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_the_device_is_cuda_where_it_is_asked_for_or_there(
    monkeypatch: pytest.MonkeyPatch, asked: Any, there: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(asked).type == chosen
