import subprocess
import sys

import pytest

import quorate.tuning


@pytest.mark.long
@pytest.mark.parametrize("used", ["", "simplex_weights", "digits", "PredictionStore", "PredictionShards"])
def test_nothing_is_imported_before_it_is_needed(used):
    look = "print('torch' in sys.modules, 'ray' in sys.modules)"
    code = f"import sys, quorate.tuning; getattr(quorate.tuning, {used!r}, None); {look}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_every_public_name_is_there():
    assert all(getattr(quorate.tuning, name) is not None for name in quorate.tuning.__all__)
