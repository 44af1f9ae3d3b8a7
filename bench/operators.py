"""Measure where the time of one train step goes, by kind of operator; print JSON lines.

    python -m bench.operators --preset small

One thread, alone on the machine, compiled as in training. `other` is the time outside of operators: Python, dispatch
and autograd itself.
"""

import argparse
import statistics
import time
from collections import defaultdict

import numpy as np
import torch
from torch._inductor import config as inductor
from torch.profiler import ProfilerActivity, profile

from bench.shared.lines import print_line
from borgagent.dqn.learner import Learner, Tensors, choose_device
from borgagent.dqn.network import QNetwork
from borgagent.settings import AgentSettings
from borgcore.replay import Batch

STEPS = 200
WARM_UP = 20
# prefixes of operators' names, by kind; operators that only call others have no time of their own
KINDS = {
    "convolution": ("aten::mkldnn_convolution", "aten::cudnn_convolution"),
    "convolution backward": ("aten::convolution_backward", "aoti_torch_cpu_convolution_backward"),
    "matrix product": ("aten::addmm", "aten::mm", "aoti_torch_cpu_addmm", "aoti_torch_cpu_mm"),
    "pointwise (compiled)": ("cpp_fused", "graph_", "triton_"),
    "optimiser": ("aten::_fused_adam", "Optimizer.step"),
    "clipping, averaging": ("aten::linalg_vector_norm", "aten::_foreach", "aten::mul_", "aten::lerp_"),
}


def main() -> None:
    """Compile, train, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="small", help="small or nature (default: small)")
    options = parser.parse_args()
    inductor.cpp.enable_kernel_profile = True
    settings = AgentSettings.load(["--game", "pong", "--preset", options.preset])
    torch.set_num_threads(settings.learner.threads)
    spec = settings.spec(3)
    network = QNetwork(settings.network, spec.stack, spec.height, spec.width, spec.actions)
    learner = Learner(network, settings.learner, choose_device(settings.device))
    batch = learner.upload(filled(Batch.empty(spec, settings.learner.batch_size, learner.allocate)))
    reason = learner.compile(batch)
    for _ in range(WARM_UP):
        learner.train(batch)
    step_ms = statistics.median(timed(learner, batch) for _ in range(STEPS))
    print_operators("train_step", median_ms=round(step_ms, 2), batch=settings.learner.batch_size, eager_because=reason)
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for _ in range(STEPS):
            learner.train(batch)
    times_us: dict[str, float] = defaultdict(float)
    for event in measured.key_averages():
        times_us[kind_of(event.key)] += event.self_cpu_time_total
    total_us = sum(times_us.values())
    for kind, time_us in sorted(times_us.items(), key=lambda item: -item[1]):
        print_operators(kind, share=round(time_us / total_us, 3), ms_per_step=round(time_us / total_us * step_ms, 2))


def filled(batch: Batch) -> Batch:
    """Fill the batch with noise and return it."""
    rng = np.random.default_rng(0)
    for frames in (batch.obs_BSHW, batch.next_obs_BSHW):
        frames[:] = rng.integers(0, 256, frames.shape, np.uint8)
    batch.action_B[:], batch.reward_B[:], batch.discount_B[:], batch.weight_B[:] = 0, 0.0, 0.97, 1.0
    return batch


def timed(learner: Learner, batch: Tensors) -> float:
    """Return the milliseconds of one train step."""
    began = time.perf_counter()
    learner.train(batch)
    return 1e3 * (time.perf_counter() - began)


def kind_of(operator: str) -> str:
    """Return the kind of the operator with this name."""
    return next((kind for kind, names in KINDS.items() if operator.startswith(names)), "other")


def print_operators(metric: str, **values: float | str | None) -> None:
    """Print one result."""
    print_line("operators", subject="borg-dqn", metric=metric, **values)


if __name__ == "__main__":
    main()
