"""AutoGluon's predictor row by row, and the ensemble that `quorate import autogluon` makes of it at 16 clients.

Run with the Python of `make test-autogluon`: `.venv-autogluon/bin/python benchmarks/autogluon_serving.py`.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer

import quorate

CLIENTS = 16
MODELS = {"GBM": {"num_boost_round": 50}, "CAT": {"iterations": 50}, "RF": {"n_estimators": 50}, "KNN": {}, "LR": {}}


def trained(folder: Path) -> tuple[Any, Any]:
    """A predictor of ten of the columns, and rows of these."""
    from autogluon.tabular import TabularPredictor

    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame[frame.columns[:10]].rename(columns=lambda name: name.replace(" ", "_"))
    predictor = TabularPredictor(label="label", path=str(folder), verbosity=0, eval_metric="log_loss")
    predictor.fit(frame[:400].assign(label=target[:400]), hyperparameters=MODELS, ag_args_fit={"num_cpus": 1})
    predictor.persist("best")
    return predictor, frame


def rate(ask: Callable[[int], Any], callers: int, duration_s: float) -> float:
    """Answers a second to so many threads, each waiting for its own."""
    counts, ends = [0] * callers, time.monotonic() + duration_s

    def run(caller: int) -> None:
        while time.monotonic() < ends:
            ask(caller + counts[caller])
            counts[caller] += 1

    threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / duration_s


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--duration", type=float, default=5.0)
    options.add_argument("--repeats", type=int, default=3)
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    print(f"{platform.machine()}, Python {platform.python_version()}, {CLIENTS} clients, median (range)")
    with tempfile.TemporaryDirectory() as place:
        predictor, frame = trained(Path(place, "trained"))
        done = quorate.import_autogluon(predictor.path, out=Path(place, "spec"), name="autogluon")
        rows = [frame[at : at + 1] for at in range(len(frame))]
        with quorate.deploy(done.spec, http_port=0) as ensemble:
            own = predictor.predict_proba(frame).to_numpy()
            found = ensemble.infer(**{name: frame[name].to_numpy() for name in frame}).outputs["fused"]
            print(f"{len(done.weights)} members, largest difference {np.abs(own - found).max():.1e}")
            ways: dict[str, Callable[[], float]] = {
                "predict_proba, one caller": lambda: rate(
                    lambda n: predictor.predict_proba(rows[n % len(rows)]), 1, asked.duration
                ),
                f"predict_proba, {CLIENTS} threads": lambda: rate(
                    lambda n: predictor.predict_proba(rows[n % len(rows)]), CLIENTS, asked.duration
                ),
                "quorate bench": lambda: (
                    quorate.bench("autogluon", inputs=frame, clients=CLIENTS, duration_s=asked.duration).rate
                ),
            }
            rates = {name: sorted(way() for _ in range(asked.repeats)) for name, way in ways.items()}
            ensemble.down()
    for name, found_rates in rates.items():
        middle = found_rates[len(found_rates) // 2]
        print(f"{name:30} {middle:7.0f} /s  ({found_rates[0]:.0f} to {found_rates[-1]:.0f})")


if __name__ == "__main__":
    main()
