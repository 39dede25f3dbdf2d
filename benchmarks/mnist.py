"""Three small convolutional networks of all of MNIST's training rows, fused: how many test digits are right?

    python benchmarks/mnist.py --data DIR [--epochs 8]

Of the 60,000 training images 10,000 are held out: half decides which epoch is kept and solves the weights, half judges.
The 10,000 test images are looked at once, by the recommended alternative.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from quorate.tuning import Labelled, Outputs, Training, choose, idx_images, train
from quorate.tuning.training.training_run import predict_logits

NETWORKS: dict[str, dict[str, Any]] = {
    "a": {"family": "cnn", "width": 16, "depth": 3},
    "b": {"family": "cnn", "width": 12, "depth": 4},
    "c": {"family": "cnn", "width": 16, "depth": 3},
}
SOLVED, JUDGED = 5000, 5000


def halves(folder: Path) -> tuple[Labelled, Labelled, Labelled, Labelled]:
    """Rows to train, to solve, to judge and to test on."""
    splits = idx_images(folder, full=True)
    solve, judge = splits.validation.rows(slice(0, SOLVED)), splits.validation.rows(slice(SOLVED, SOLVED + JUDGED))
    more = splits.validation.rows(slice(SOLVED + JUDGED, None))
    images = np.concatenate([splits.train.inputs["image"], more.inputs["image"]])
    rows = Labelled({"image": images}, np.concatenate([splits.train.labels, more.labels]), splits.train.classes)
    return rows, solve, judge, splits.test


def probabilities(model: torch.nn.Module, rows: Labelled) -> NDArray[np.float32]:
    """(N, C)"""
    said: NDArray[np.float32] = predict_logits(model, torch.from_numpy(rows.inputs["image"])).softmax(dim=1).numpy()
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    rows, *others = halves(arguments.data / "mnist")
    said: list[list[NDArray[np.float32]]] = []
    for seed, (name, config) in enumerate(NETWORKS.items()):
        started = time.perf_counter()
        training = Training(epochs=arguments.epochs, batch_size=64, learning_rate=5e-3, jitter=0.12, seed=seed)
        model = train(config, rows, others[0], training).model
        said.append([probabilities(model, part) for part in others])
        right = float((said[-1][2].argmax(axis=1) == others[2].labels).mean())
        print(f"{name}: test accuracy {right:.4f} ({time.perf_counter() - started:.0f} s)", flush=True)
    solve, judge, test = (
        Outputs(tuple(NETWORKS), np.stack(probs), part.labels)
        for probs, part in zip(zip(*said, strict=True), others, strict=True)
    )
    choice = choose(solve, judge)
    fused = choice.served[choice.recommended].fuse(test.names, test.probs)
    right = float((fused.argmax(axis=1) == test.labels).mean())
    loss = float(-np.log(np.clip(fused[np.arange(len(test)), test.labels], 1e-15, 1)).mean())
    print(choice.verdict)
    print(f"{choice.recommended}: test accuracy {right:.4f}, log-loss {loss:.4f}")


if __name__ == "__main__":
    main()
