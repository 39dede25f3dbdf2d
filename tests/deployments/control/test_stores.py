"""What the registry relies on, of the cluster's store and of the dict that stands in for it."""

import pytest

from quorate.deployments.control.ray_private import ClusterStore
from tests.deployments.support.memory_store import MemoryStore


class StoreContract:
    """Give it a ``store``; keys that a test leaves are its own."""

    def test_what_is_put_is_got_until_it_is_deleted(self, store):
        assert store.get("contract/a") == b""
        assert store.put("contract/a", b"one")
        assert store.put("contract/a", b"two")
        assert store.get("contract/a") == b"two"
        store.delete("contract/a")
        store.delete("contract/a")
        assert store.get("contract/a") == b""

    def test_only_the_first_gets_a_key_that_must_be_new(self, store):
        assert store.put("contract/b", b"first", overwrite=False)
        assert not store.put("contract/b", b"second", overwrite=False)
        assert store.get("contract/b") == b"first"
        store.delete("contract/b")
        assert store.put("contract/b", b"third", overwrite=False)
        store.delete("contract/b")

    def test_who_puts_a_value_twice_has_put_it(self, store):
        """As Ray does where the first answer got lost."""
        assert [store.put("contract/b", b"mine", overwrite=False) for _ in range(2)] == [True, True]
        assert not store.put("contract/b", b"another's", overwrite=False)
        store.delete("contract/b")

    def test_keys_are_found_by_how_they_start(self, store):
        for key in ("contract/c/1", "contract/c/2", "contract/cc/1"):
            store.put(key, b"x")
        assert sorted(store.keys("contract/c/")) == ["contract/c/1", "contract/c/2"]
        for key in store.keys("contract/"):
            store.delete(key)


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()


class TestClusterStore(StoreContract):
    @pytest.fixture
    def store(self, cluster):
        return ClusterStore()
