from typing import Any

from borgmonitor.topology import Topology, newest

KEY = "borg:{r:r0}:meta"  # slot 13585


def node(flags: str, *slots: list[str], epoch: int = 1, hostname: str = "") -> dict[str, Any]:
    return {"flags": flags, "slots": list(slots), "epoch": str(epoch), "hostname": hostname}


REPLY = {
    "10.0.0.3:6379": node("master", ["10923", "16383"], epoch=3),
    "10.0.0.1:6379": node("myself,master", ["0", "5460"], epoch=1),
    "10.0.0.2:6379": node("master", ["5461", "10922"], epoch=2),
    "10.0.0.4:6379": node("slave"),
}


def test_primaries_are_watched_and_the_owner_of_the_key_is_known() -> None:
    view = Topology.of(REPLY, KEY, "10.0.0.1:6379")
    assert view == Topology(("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"), "10.0.0.3:6379", 3)


def test_a_slot_on_its_own_has_an_owner() -> None:
    reply = REPLY | {"10.0.0.3:6379": node("master", ["13584"], ["13585"])}
    assert Topology.of(reply, KEY, "10.0.0.1:6379").owner == "10.0.0.3:6379"


def test_a_slot_that_nobody_serves_has_no_owner() -> None:
    reply = {name: one for name, one in REPLY.items() if name != "10.0.0.3:6379"}
    assert Topology.of(reply, KEY, "10.0.0.1:6379").owner is None


def test_a_primary_that_failed_is_watched_until_a_replica_has_its_slots() -> None:
    failed = REPLY | {"10.0.0.3:6379": node("master,fail", ["10923", "16383"])}
    assert "10.0.0.3:6379" in Topology.of(failed, KEY, "10.0.0.1:6379").nodes
    replaced = failed | {
        "10.0.0.3:6379": node("master,fail"),
        "10.0.0.4:6379": node("master", ["10923", "16383"], epoch=4),
    }
    view = Topology.of(replaced, KEY, "10.0.0.1:6379")
    assert view.nodes == ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.4:6379")
    assert (view.owner, view.epoch) == ("10.0.0.4:6379", 4)


def test_nodes_that_are_not_part_of_it_yet_are_left_out() -> None:
    reply = REPLY | {":0": node("master,noaddr"), "10.0.0.9:6379": node("handshake")}
    assert len(Topology.of(reply, KEY, "10.0.0.1:6379").nodes) == 3


def test_a_node_that_does_not_know_its_host_has_the_one_asked_and_a_host_name_goes_first() -> None:
    reply = {":7000": node("myself,master", ["0", "16383"]), "10.0.0.2:7001": node("master", hostname="two.example")}
    assert Topology.of(reply, KEY, "one.example:7000").nodes == ("one.example:7000", "two.example:7001")


def test_the_view_that_knows_the_newest_configuration_counts() -> None:
    old, new = Topology(("a:1",), "a:1", 3), Topology(("b:1",), "b:1", 4)
    assert newest([old, new]) is newest([new, old]) is new
    assert newest([]) is None
