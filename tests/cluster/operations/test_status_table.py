"""What a status shows of an ensemble, from what its replicas say."""

from quorate import EnsembleStatus


def test_a_part_that_does_not_start_is_said_with_its_own_words():
    why = "all.bin (sha256:23b8201b591e) is missing on this node: no other node is alive; deploy it again"
    status = EnsembleStatus("e", "r", (), (), False, False, {"a": 0}, {"a": []}, not_started={"a": why})
    (table,) = status.tables()
    assert f"a does not start: {why}" in table.lines
    assert status.to_dict()["not_started"] == {"a": why}
