"""Where the time of one train step goes, by kind of operator: JSON lines.

    python -m bench.operators --preset small

One thread, alone on the machine, compiled as in training. `other` is Python, dispatch and autograd's own work: what no
operator accounts for.
"""

import argparse
import statistics
import sys
import time
from collections import defaultdict
from typing import Any

import numpy as np
import orjson
import torch
from torch._inductor import config as inductor
from torch.profiler import ProfilerActivity, profile

from borgagent.dqn.learner import Learner, Tensors, choose_device
from borgagent.dqn.network import QNetwork
from borgagent.settings import AgentSettings
from borgcore.replay import Batch

STEPS = 200
WARM_UP = 20
# beginnings of operators' names, by kind; operators that only call others have no time of their own
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
    given = parser.parse_args()
    inductor.cpp.enable_kernel_profile = True
    settings = AgentSettings.load(["--game", "pong", "--preset", given.preset])
    torch.set_num_threads(settings.learner.threads)
    spec = settings.spec(3)
    network = QNetwork(settings.network, spec.stack, spec.height, spec.width, spec.actions)
    learner = Learner(network, settings.learner, choose_device(settings.device))
    batch = learner.upload(filled(Batch.empty(spec, settings.learner.batch_size, learner.allocate)))
    reason = learner.compile(batch)
    for _ in range(WARM_UP):
        learner.train(batch)
    step_ms = statistics.median(timed(learner, batch) for _ in range(STEPS))
    tell("train_step", median_ms=round(step_ms, 2), batch=settings.learner.batch_size, eager_because=reason)
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        for _ in range(STEPS):
            learner.train(batch)
    times_us: dict[str, float] = defaultdict(float)
    for event in measured.key_averages():
        times_us[kind_of(event.key)] += event.self_cpu_time_total
    total_us = sum(times_us.values())
    for kind, time_us in sorted(times_us.items(), key=lambda item: -item[1]):
        tell(kind, share=round(time_us / total_us, 3), ms_per_step=round(time_us / total_us * step_ms, 2))


def filled(batch: Batch) -> Batch:
    """The batch, filled with noise."""
    rng = np.random.default_rng(0)
    for frames in (batch.obs_BSHW, batch.next_obs_BSHW):
        frames[:] = rng.integers(0, 256, frames.shape, np.uint8)
    batch.action_B[:], batch.reward_B[:], batch.discount_B[:], batch.weight_B[:] = 0, 0.0, 0.97, 1.0
    return batch


def timed(learner: Learner, batch: Tensors) -> float:
    """Milliseconds of one train step."""
    began = time.perf_counter()
    learner.train(batch)
    return 1e3 * (time.perf_counter() - began)


def kind_of(operator: str) -> str:
    """The kind of an operator's name."""
    return next((kind for kind, names in KINDS.items() if operator.startswith(names)), "other")


def tell(metric: str, **values: Any) -> None:
    """Print one line."""
    sys.stdout.write(
        orjson.dumps({"bench": "operators", "subject": "borg-dqn", "metric": metric, **values}).decode() + "\n"
    )


if __name__ == "__main__":
    main()
