import subprocess
import sys

import pytest

import quorate.tuning


@pytest.mark.long
def test_nothing_is_imported_before_it_is_needed():
    code = """
import sys, quorate.tuning
for used in ("", "simplex_weights", "digits", "PredictionStore", "PredictionShards"):
    getattr(quorate.tuning, used, None)
    print(*(f"{used} loads {module}" for module in ("torch", "ray") if module in sys.modules), sep="")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there():
    assert all(getattr(quorate.tuning, name) is not None for name in quorate.tuning.__all__)
