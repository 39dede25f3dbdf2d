"""Records of what is true, kept in a dict instead of a cluster's store."""

import hashlib
import json
from dataclasses import replace

import pytest

from quorate.deployments import Doors
from quorate.deployments.errors import ConflictError, RecordVersionError, UnavailableError
from quorate.deployments.records.registry import KEPT, Publication, Registry
from quorate.deployments.spec.fields.types import Frozen
from tests.deployments.support.memory_store import MemoryStore
from tests.deployments.support.publications import publication, record


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def registry(store):
    return Registry(store)


def follow(registry, deadline_s, **options):
    registry.write(registry.latest("kept").following(publication(deadline_s), **options))


def deadlines(registry):
    found = registry.latest("kept")
    return [old.spec.fusion.deadline_s for old in (*found.earlier, found.live)]


def test_what_is_written_comes_back_as_it_was(registry):
    doors = Doors("127.0.0.1", ask_tokens=("a" * 64,), management_tokens=("b" * 64,))
    written = replace(record(), doors=doors, earlier=(publication(9.0),))
    registry.write(written)
    assert registry.latest("kept") == written
    assert Publication.from_json(written.live.to_json()) == written.live


def test_doors_are_reached_at_every_node_or_at_the_only_address_that_they_bind():
    nodes = {"10.0.0.1": "kept.@10-0-0-1.12345678", "10.0.0.2": "kept.@10-0-0-2.12345678"}
    assert replace(record(), doors=Doors("0.0.0.0", insecure=True), door_apps=nodes).door_hosts == tuple(nodes)
    assert replace(record(), doors=Doors(), door_apps=nodes).door_hosts == ("127.0.0.1",)


def test_an_ensemble_that_was_never_deployed_has_no_record(registry):
    assert (registry.latest("kept"), registry.number("kept"), registry.records()) == (None, 0, {})


def test_of_two_changes_of_the_same_record_the_second_is_refused(registry):
    registry.write(record())
    first = registry.latest("kept").following(publication(2.0))
    second = registry.latest("kept").following(publication(3.0))
    registry.write(first)
    with pytest.raises(ConflictError, match="'kept' has been changed meanwhile"):
        registry.write(second)
    assert registry.latest("kept") == first


def test_a_record_is_true_even_if_its_writer_died_before_the_number(registry, store):
    registry.write(record())
    follow(registry, 2.0)
    store.put("record-number/kept", b"1")
    assert (registry.number("kept"), deadlines(registry)) == (2, [1.0, 2.0])


def test_a_number_that_is_far_behind_leads_to_the_newest_record_all_the_same(registry, store):
    """As after writers that died, or came to the number later than those that followed them."""
    registry.write(record())
    for deadline_s in (2.0, 3.0, 4.0):
        follow(registry, deadline_s)
    for noted in (b"1", b"2", b"3"):
        store.put("record-number/kept", noted)
        assert (registry.number("kept"), deadlines(registry)[-1]) == (4, 4.0)
    store.delete("record-number/kept")
    assert (registry.number("kept"), list(registry.records())) == (4, ["kept"])


def test_a_record_is_true_once_it_is_written_whatever_fails_after_it(registry, store, monkeypatch):
    registry.write(record())
    put = store.put

    def fails(key, value, overwrite=True):
        if overwrite:
            raise UnavailableError("the cluster's head does not answer")
        return put(key, value, overwrite)

    monkeypatch.setattr(store, "put", fails)
    follow(registry, 2.0)
    follow(registry, 3.0)
    assert deadlines(registry) == [1.0, 2.0, 3.0]
    monkeypatch.setattr(store, "put", put)
    follow(registry, 4.0)
    assert store.keys("record/") == ["record/kept/4"]


def test_a_reader_that_is_overtaken_looks_again(registry, store):
    registry.write(record())

    class Overtaken(MemoryStore):
        """Another change is written right after the number was read."""

        def get(self, key):
            found = super().get(key)
            if key == "record-number/kept" and found == b"1":
                follow(registry, 2.0)
            return found

    slow = Overtaken()
    slow.values = store.values
    found = Registry(slow).latest("kept")
    assert found is not None
    assert found.number == 2


def test_a_revision_that_is_live_again_moves_to_the_end(registry):
    registry.write(record())
    for deadline_s in (2.0, 1.0):
        follow(registry, deadline_s)
    assert deadlines(registry) == [2.0, 1.0]


def test_a_rollback_drops_the_revision_that_it_leaves(registry):
    registry.write(record())
    for deadline_s in (2.0, 3.0):
        follow(registry, deadline_s)
    follow(registry, 2.0, dropping=publication(3.0).spec.revision)
    assert deadlines(registry) == [1.0, 2.0]


def test_only_the_newest_revisions_are_kept_and_one_record(registry, store):
    registry.write(record())
    for deadline_s in range(2, KEPT + 4):
        follow(registry, float(deadline_s))
    assert deadlines(registry) == [float(deadline_s) for deadline_s in range(4, KEPT + 4)]
    assert store.keys("record/") == [f"record/kept/{KEPT + 3}"]


def test_an_ensemble_that_was_taken_down_is_gone_and_its_numbers_go_on(registry):
    registry.write(record())
    registry.write_down("kept", 2)
    assert (registry.latest("kept"), registry.records(), registry.number("kept")) == (None, {}, 2)
    registry.write(record(3))
    assert registry.records() == {"kept": record(3)}


def test_a_change_that_was_under_way_while_an_ensemble_was_taken_down_does_not_bring_it_back(registry):
    registry.write(record())
    change = registry.latest("kept").following(publication(2.0))
    registry.write_down("kept", 2)
    with pytest.raises(ConflictError):
        registry.write(change)
    assert registry.latest("kept") is None


def test_all_who_ask_get_the_same_keys(registry, store):
    keys = registry.cluster_keys()
    assert b"PRIVATE KEY" in keys.private_key
    assert Registry(store).cluster_keys() == keys


def test_a_newer_record_is_noticed_without_reading_it(registry, store):
    assert not registry.follows("kept", 0)
    registry.write(record())
    assert registry.follows("kept", 0)
    assert not registry.follows("kept", 1)
    read: list[bytes] = []

    def noted(key, get=store.get):
        read.append(get(key))
        return read[-1]

    store.get = noted
    assert not registry.follows("kept", 1)
    assert sum(map(len, read)) <= 8
    follow(registry, 2.0)
    follow(registry, 3.0)
    assert registry.follows("kept", 1)
    store.put("record-number/kept", b"2")  # the note is behind, as where its writer died
    assert registry.follows("kept", 2)
    assert not registry.follows("kept", 3)


def altered(store, change):
    """The newest record, changed by hand as another version might have written it."""
    (key,) = store.keys("record/")
    data = json.loads(store.get(key))
    change(data)
    store.put(key, json.dumps(data).encode())


def test_a_record_of_a_later_version_is_read_where_what_is_new_may_be_passed_over(registry, store):
    registry.write(record())
    altered(store, lambda data: data.update(format=9, quorate="9.1", owner="somebody"))
    assert registry.latest("kept") == record()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda data: data.update(format=9, least_format=9, quorate="9.1"), "it is in format 9, and this one knows 1"),
        (lambda data: (data.update(quorate="9.1"), data["live"]["spec"].update(colour="red")), "colour"),
        (lambda data: (data.update(quorate="9.1"), data.pop("doors")), "doors"),
    ],
    ids=["format", "field of the spec", "field that is gone"],
)
def test_a_record_of_a_later_version_that_cannot_be_read_is_refused_in_words(registry, store, change, found):
    registry.write(record())
    altered(store, change)
    with pytest.raises(RecordVersionError, match=found) as refused:
        registry.latest("kept")
    assert "written by Quorate 9.1" in str(refused.value)
    assert "upgrade Quorate here, see docs/upgrading.md" in str(refused.value)


def test_a_record_names_no_field_of_the_spec_that_has_its_default(registry, store):
    """An older version would refuse a field that it does not know, even one that says nothing."""
    registry.write(record())
    data = json.loads(store.get("record/kept/1"))
    assert set(data["live"]["spec"]) == {"name", "inputs", "classes", "members", "fusion"}
    assert set(data["live"]["spec"]["members"]["a"]) == {"model", "inputs"}


def test_records_before_versions_were_written_are_read(registry, store):
    registry.write(record())

    def as_before(data):
        for name in ("format", "least_format", "quorate"):
            del data[name]
        data["live"]["spec"] = record().live.spec.model_dump(mode="json")

    altered(store, as_before)
    assert registry.latest("kept") == record()


def test_a_spec_keeps_its_names_in_later_versions():
    """Replicas of two versions publish by them. A new field of the spec goes into its class's ``later``."""
    spec = publication().spec
    assert (spec.revision, spec.wiring) == ("003c27a96012", "34296bbd2ef9")
    job = hashlib.sha256(spec.job("a").model_dump_json().encode()).hexdigest()
    assert job[:12] == "05adef151b68"


def test_a_field_that_came_later_is_in_no_dump_with_its_default_and_else_in_all():
    class Older(Frozen):
        name: str

    class Newer(Older):
        later = frozenset({"colours"})
        colours: tuple[str, ...] = ()

    class Outer(Frozen):
        inner: Newer

    plain = Outer(inner=Newer(name="a"))
    assert plain.model_dump() == {"inner": {"name": "a"}}
    assert Older.model_validate_json(plain.inner.model_dump_json()) == Older(name="a")
    red = Outer(inner=Newer(name="a", colours=("red",)))
    assert Outer.model_validate(red.model_dump(mode="json")) == red
    assert Outer.model_json_schema()["$defs"]["Newer"]["properties"].keys() == {"name", "colours"}


def test_shadows_are_kept_with_what_they_are_beside_until_they_are_live(registry):
    first, shadow = record(), publication(2.0)
    registry.write(first)
    registry.write(first.shadowed_by([shadow, publication(3.0)]))
    found = registry.latest("kept")
    assert [one.spec.fusion.deadline_s for one in found.shadows] == [2.0, 3.0]
    assert found.publications == (found.live, *found.shadows)
    after = found.following(found.shadows[0])
    assert [one.spec.fusion.deadline_s for one in (after.live, *after.earlier, *after.shadows)] == [2.0, 1.0, 3.0]
    assert json.loads(first.to_json()).get("shadows") is None
