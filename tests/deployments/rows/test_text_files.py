"""Text in .csv, .tsv and .jsonl, as Python's own writers write it: read as it was, whatever it looks like."""

import csv
import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.deployments.errors import RowsError
from quorate.deployments.rows.reading import Wanted, read_inputs

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=6)
LOOKS = st.sampled_from(["010", "1.50", "NA", "null", "nan", "true", " a ", "", '"', ",", "\t", "a\nb", "2020-01-01"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXT | LOOKS, TEXT | LOOKS, st.integers(-(1 << 63), (1 << 63) - 1)), min_size=1, max_size=5))
def test_text_stays_as_it_is_written_and_whole_numbers_keep_every_digit(tmp_path_factory, rows):
    folder = tmp_path_factory.getbasetemp()
    for name, delimiter in (("rows.csv", ","), ("rows.tsv", "\t")):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\n").writerows([("a", "b", "n"), *rows])
    records = [dict(zip("abn", row, strict=True)) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, records)))
    (folder / "rows.json").write_text(json.dumps(records))
    wanted = {"a": Wanted("BYTES", ()), "b": Wanted("BYTES", (1,)), "n": Wanted("INT64", ())}
    for name in ("rows.csv", "rows.tsv", "rows.jsonl", "rows.json"):
        found = read_inputs(folder / name, wanted)
        assert found["a"].tolist() == [a.encode() for a, _, _ in rows], name
        assert found["b"].ravel().tolist() == [b.encode() for _, b, _ in rows], name
        assert found["n"].tolist() == [n for _, _, n in rows], name


def test_a_column_of_nothing_but_gaps_is_missing_numbers_or_the_text_it_is(tmp_path):
    (tmp_path / "rows.csv").write_text('x\nNA\n""\nnan\n')
    numbers = read_inputs(tmp_path / "rows.csv", {"x": Wanted("FP32", ())})["x"]
    assert np.isnan(numbers).tolist() == [True] * 3
    assert read_inputs(tmp_path / "rows.csv", {"x": Wanted("BYTES", ())})["x"].tolist() == [b"NA", b"", b"nan"]


def test_a_long_text_among_numbers_costs_no_more_memory_than_itself(tmp_path):
    (tmp_path / "rows.csv").write_text("x\n" + "1\n" * 4000 + "y" * 5_000_000 + "\n")
    tracemalloc.start()
    with pytest.raises(RowsError, match="row 4000: 'yyyy"):
        read_inputs(tmp_path / "rows.csv", {"x": Wanted("FP32", ())})
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 100 << 20
