"""Who needs an application that several ensembles share."""

from quorate.deployments.records.claims import Claims
from tests.deployments.support.memory_store import MemoryStore


def test_an_application_is_claimed_by_each_ensemble_for_itself():
    claims = Claims(MemoryStore())
    for app, ensemble in (("@shared.a.1", "one"), ("@shared.a.1", "two"), ("@shared.b.1", "two")):
        claims.add(app, ensemble)
    assert claims.holders("@shared.a.1") == {"one", "two"}
    assert claims.of("two") == {"@shared.a.1", "@shared.b.1"}
    claims.drop("@shared.a.1", "two")
    claims.drop("@shared.a.1", "three")
    assert claims.holders("@shared.a.1") == {"one"}
    assert claims.of("two") == {"@shared.b.1"}


def test_an_ensemble_whose_name_begins_anothers_claims_nothing_of_it():
    claims = Claims(MemoryStore())
    claims.add("@shared.a.1", "one-more")
    assert claims.of("one") == set()
