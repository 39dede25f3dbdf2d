import pytest

from quorate.tuning.errors import SweepError
from quorate.tuning.search.settings import RunOptions, check_unused, make_settings, read_settings, save_settings
from quorate.tuning.search.space import SearchSpace

VALUES = {
    "space": SearchSpace(name="digits"), "trials": 12, "member_trials": 6, "objectives": ("log_loss", "memory_bytes"),
    "sampler": "tpe", "seed": 0, "parallel": 3, "origin": {"data": "digits"},
}  # fmt: skip


def test_settings_are_read_as_they_were_saved(tmp_path):
    settings = make_settings(**VALUES)
    save_settings(tmp_path, settings, {"train": "abc"})
    assert read_settings(tmp_path) == (settings, {"train": "abc"})


def test_a_folder_that_holds_a_sweep_takes_no_other(tmp_path):
    save_settings(tmp_path, make_settings(**VALUES), {})
    with pytest.raises(SweepError, match="holds a sweep already"):
        check_unused(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"trials": 0}, "trials: 0; input should be greater than or equal to 1"),
        ({"objectives": ()}, "objectives: "),
        ({"objectives": ("beauty",)}, "objectives.0: 'beauty'"),
        ({"sampler": "grid"}, "sampler: 'grid'"),
    ],
)
def test_a_value_out_of_range_is_named(wrong, said):
    with pytest.raises(SweepError, match=said):
        make_settings(**{**VALUES, **wrong})


def test_no_workers_are_refused():
    with pytest.raises(SweepError, match="workers: 0; give at least 1"):
        RunOptions(workers=0)


@pytest.mark.parametrize("text", ["", "{}", '{"settings": {"trials": 3}, "data": {}}'])
def test_damaged_settings_are_said(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(SweepError, match=r"sweep\.json is damaged"):
        read_settings(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("bits", [1, pytest.param(8, marks=pytest.mark.slow)])
def test_no_bit_that_flips_changes_what_a_sweep_does(tmp_path, bits):
    """Each is said to be damage, or makes no difference, as in a blank between two fields."""
    settings = make_settings(**VALUES)
    save_settings(tmp_path, settings, {"train": "abc"})
    path, said = tmp_path / "sweep.json", 0
    written = path.read_bytes()
    for place in range(len(written)):
        for bit in range(place % 8, place % 8 + bits):
            path.write_bytes(written[:place] + bytes([written[place] ^ 1 << bit % 8]) + written[place + 1 :])
            try:
                assert read_settings(tmp_path) == (settings, {"train": "abc"})
            except SweepError as error:
                said += "sweep.json is damaged" in str(error)
            else:
                said += 1
    assert said == bits * len(written)


def test_a_folder_without_a_sweep_is_said(tmp_path):
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(SweepError, match=r"it has no sweep\.json"):
            read_settings(place)
