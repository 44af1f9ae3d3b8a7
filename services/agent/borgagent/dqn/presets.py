"""Named sets of defaults. Every setting the user gives overrides the preset; the preset overrides the classes."""

from typing import Any, Literal

PresetName = Literal["auto", "tiny", "small", "nature"]
NetworkName = Literal["tiny", "small", "nature"]

PRESETS: dict[str, dict[str, Any]] = {
    # Catch, 10x5 pixels: learned in a minute on one core.
    "tiny": {
        "network": "tiny",
        "environment": {"height": 10, "width": 5, "stack": 1, "envs": 8},
        "actor": {"n_steps": 1, "epsilon_steps": 6_000, "chunk_steps": 8},
        "replay": {"capacity": 20_000, "min_size": 500, "error_buffer": 1_000.0},
        "learner": {
            "batch_size": 64,
            "learning_rate": 1e-3,
            "target_rate": 0.02,
            "publish_period_s": 0.25,
            "compile": "never",  # compiling takes longer than learning does
        },
    },
    # 42x42 grey frames and a small network, for CPUs. docs/performance.md tells how these values were found.
    "small": {
        "network": "small",
        "environment": {"height": 42, "width": 42, "stack": 4, "envs": 8},
        "actor": {"n_steps": 2, "epsilon_end": 0.002},
        "replay": {
            "capacity": 500_000,
            "min_size": 10_000,
            "alpha_end": 0.0,  # on Breakout, priorities helped at first and hindered later
            "beta_end": 0.5,  # as at the start: with alpha at 0 there is no bias to correct
            "samples_per_insert": 4.0,
        },
        "learner": {
            "batch_size": 128,
            "learning_rate": 1e-3,
            "adam_epsilon": 1e-5,  # most gradients are below 1e-4: a larger value would shrink steps with the loss
            "target_rate": 0.01,
            "anneal_updates": 20_000,
        },
    },
    # 84x84 frames and the network of Mnih et al. 2015, for GPUs.
    "nature": {
        "network": "nature",
        "environment": {"height": 84, "width": 84, "stack": 4, "envs": 16},
        "actor": {"n_steps": 3},
        "replay": {"capacity": 1_000_000, "min_size": 20_000, "error_buffer": 16_000.0},
        "learner": {"batch_size": 256, "learning_rate": 2.5e-4, "samplers": 4},
    },
}


def choose_preset(name: PresetName, game: str, *, cuda: bool) -> PresetName:
    """Return ``name``, with ``auto`` resolved: tiny for Catch, nature if there is a GPU, else small."""
    if name != "auto":
        return name
    if game == "catch":
        return "tiny"
    return "nature" if cuda else "small"
