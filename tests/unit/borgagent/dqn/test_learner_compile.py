"""The learner's train step compiled, and in bfloat16."""

import shutil
from typing import Any

import numpy as np
import pytest
import torch

from borgagent.dqn.learner import has_bfloat16, td_loss
from borgagent.dqn.network import QNetwork
from tests.limits import LONG_TEST_TIMEOUT_S
from tests.unit.borgagent.dqn.learners import EAGER, batch_of, learner_of, same


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


def test_bfloat16_trains_too() -> None:
    learner = learner_of(EAGER.model_copy(update={"precision": "bfloat16"}))
    first = last = learner.train(batch_of())
    for _ in range(50):
        last = learner.train(batch_of())
    assert last.loss < first.loss
    assert last.td_error_B.dtype == np.float32
