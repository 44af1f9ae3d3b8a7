import pytest
import torch

from borgagent.dqn.network import QNetwork
from borgagent.dqn.presets import NetworkName

SIZES: dict[NetworkName, tuple[int, int, int]] = {"tiny": (1, 10, 5), "small": (4, 42, 42), "nature": (4, 84, 84)}


def network_of(name: NetworkName, actions: int = 3) -> QNetwork:
    torch.manual_seed(0)
    return QNetwork(name, *SIZES[name], actions)


def frames_of(name: NetworkName, batch: int = 6, below: int = 256) -> torch.Tensor:
    return torch.randint(0, below, (batch, *SIZES[name]), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("actions", [3, 18])
def test_q_values_are_float32_one_per_action(name: NetworkName, actions: int) -> None:
    q_BA = network_of(name, actions)(frames_of(name))
    assert (q_BA.shape, q_BA.dtype) == ((6, actions), torch.float32)


def test_q_values_are_float32_under_autocast_too() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network_of("small")(frames_of("small")).dtype == torch.float32


def test_under_autocast_small_advantages_are_not_rounded_away() -> None:
    network = network_of("tiny")
    for head, bias in (("value", [1.0]), ("advantage", [0.0, 0.001, 0.002])):
        network.state_dict()[f"{head}.2.weight"].zero_()
        network.state_dict()[f"{head}.2.bias"].copy_(torch.tensor(bias))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):  # its resolution near 1 is 0.0078
        q_BA = network(frames_of("tiny", batch=1))
    torch.testing.assert_close(q_BA, torch.tensor([[0.999, 1.0, 1.001]]), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("name", SIZES)
def test_the_mean_over_the_actions_is_the_state_value(name: NetworkName) -> None:
    network, frames = network_of(name), frames_of(name)
    with torch.no_grad():
        features = network.features((frames.float() - network.mean_HW) / 64.0)
        torch.testing.assert_close(network(frames).mean(dim=1), network.value(features).squeeze(1))
        advantage_BA = network.advantage(features)
        q_BA = network(frames)
    torch.testing.assert_close(q_BA - q_BA.mean(1, keepdim=True), advantage_BA - advantage_BA.mean(1, keepdim=True))


@pytest.mark.parametrize("name", SIZES)
def test_centred_q_values_do_not_depend_on_a_constant_brightness(name: NetworkName) -> None:
    network, frames = network_of(name), frames_of(name, below=200)
    brighter = frames + 55
    with torch.no_grad():
        network.centre_on(frames)
        dark_BA = network(frames)
        network.centre_on(brighter)
        torch.testing.assert_close(network(brighter), dark_BA)


def test_centring_takes_the_mean_over_batch_and_stack() -> None:
    network = network_of("small")
    frames = torch.zeros((2, 4, 42, 42), dtype=torch.uint8)
    frames[0, :, 0, 0] = 100
    frames[1, 3, 5, 7] = 80
    network.centre_on(frames)
    assert network.mean_HW[0, 0] == 50.0
    assert network.mean_HW[5, 7] == 10.0
    assert network.mean_HW.sum() == 60.0


def test_the_mean_image_is_published_with_the_weights_and_not_trained() -> None:
    network = network_of("tiny")
    assert "mean_HW" in network.state_dict()
    assert "mean_HW" not in dict(network.named_parameters())
