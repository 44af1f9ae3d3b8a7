import anyio
import orjson
import pytest

from borglogshipper.stores.store import Documents, Outcome, Store
from tests.limits import HANG_S

from .samples import make_documents, report

INDEX = "training_log-2026.11"
PRESENT = Outcome.PRESENT


async def test_every_event_comes_back_byte_for_byte_as_its_producer_encoded_it(store: Store) -> None:
    documents = make_documents()
    with anyio.fail_after(HANG_S):
        await store.prepare()
        assert await store.write(documents) == {}
        assert await store.read(documents.indices, documents.ids) == documents.bodies


async def test_one_event_is_the_same_document_in_both_stores(elastic: Store, sqlite: Store) -> None:
    documents = make_documents().pick([0])
    found = []
    with anyio.fail_after(HANG_S):
        for store in (elastic, sqlite):
            await store.prepare()
            await store.write(documents)
            found += await store.read(documents.indices, documents.ids)
    assert found[0] == found[1] == documents.bodies[0]
    assert orjson.loads(documents.bodies[0])["settings"]["replay"]["names"] == ["a", None]


async def test_documents_written_again_are_present_and_unchanged(store: Store) -> None:
    first = Documents([INDEX] * 2, ["a", "b"], [report(), report("1.5")])
    again = Documents([INDEX] * 4, ["c", "b", "a", "c"], [report(), report("9.5"), report(), report()])
    with anyio.fail_after(HANG_S):
        await store.prepare()
        assert await store.write(first) == {}
        verdicts = await store.write(again)
        assert {row: verdict.outcome for row, verdict in verdicts.items()} == {1: PRESENT, 2: PRESENT, 3: PRESENT}
        assert await store.read([INDEX] * 3, ["a", "b", "c"]) == [report(), report("1.5"), report()]


async def test_documents_are_read_in_the_order_in_which_they_were_asked_for(store: Store) -> None:
    ids = [f"{number}" for number in range(20)]
    bodies = [report(f"{number}.5") for number in range(20)]
    with anyio.fail_after(HANG_S):
        await store.prepare()
        await store.write(Documents([INDEX] * 20, ids, bodies))
        asked = ["7", "absent", "3", "19", "3"]
        found = await store.read([INDEX] * 5, asked)
        assert found == [bodies[7], None, bodies[3], bodies[19], bodies[3]]
        assert await store.read(["training_log-1999.01"], ["nowhere"]) == [None]
        assert await store.read([], []) == []
        assert await store.write(Documents([], [], [])) == {}


async def test_preparing_again_changes_nothing(store: Store) -> None:
    with anyio.fail_after(HANG_S):
        await store.prepare()
        await store.write(Documents([INDEX], ["a"], [report()]))
        await store.prepare()
        assert await store.read([INDEX], ["a"]) == [report()]


async def test_writes_at_the_same_time_all_arrive(store: Store) -> None:
    async def write(number: int) -> None:
        assert await store.write(Documents([INDEX] * 2, [f"{number}", f"{number}b"], [report()] * 2)) == {}

    with anyio.fail_after(HANG_S):
        await store.prepare()
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(write, number)
        ids = [f"{number}" for number in range(8)]
        assert await store.read([INDEX] * 8, ids) == [report()] * 8


async def test_a_check_says_what_the_store_is(elastic: Store, sqlite: Store) -> None:
    with anyio.fail_after(HANG_S):
        assert (await elastic.check()).startswith("Elasticsearch 8.")
        assert (await sqlite.check()).startswith("SQLite 3.")


@pytest.mark.parametrize("ids", [["a b/c%d?*#:é".encode().decode("ascii", "ignore")], ["x" * 512]])
async def test_an_id_of_any_printable_ascii_is_kept(store: Store, ids: list[str]) -> None:
    with anyio.fail_after(HANG_S):
        await store.prepare()
        assert await store.write(Documents([INDEX], ids, [report()])) == {}
        assert await store.read([INDEX], ids) == [report()]
