"""Train a member from its first epoch to its last.

Entry point: ``train(config, splits.train, splits.validation, Training(seed=0), console=None) -> Trained``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from quorate.tuning.data.labelled import Labelled
from quorate.tuning.training.epochs import Epoch, Training
from quorate.tuning.training.training_run import Loss, Trained, TrainingRun

if TYPE_CHECKING:
    from rich.console import Console


def train(
    config: Mapping[str, Any],
    rows: Labelled,
    validation: Labelled,
    training: Training | None = None,
    *,
    console: Console | None = None,
    on_epoch: Callable[[Epoch, nn.Module], bool] | None = None,
    loss: Loss | None = None,
) -> Trained:
    """Train the network that ``build(**config)`` makes.

    Args:
        config: as in a spec; image and classes may be left out, the data has them. Training is in fp32 always.
        rows: training rows with one input, (N, channels, height, width).
        validation: rows that decide when to stop and which epoch is kept.
        training: seed and rates.
        console: shows a progress bar if it is a terminal.
        on_epoch: called after each epoch; True stops the training (a scheduler's early stop).
        loss: of a batch's logits (B, C) and the numbers of its rows (B,); cross-entropy with their labels.

    Raises:
        ArchitectureError: the config cannot be built.
        DataError: not exactly one input.
        TuningError: every epoch's validation log-loss was NaN or infinite.
    """
    run = TrainingRun(config, rows, validation, training or Training(), loss)
    with _progress(console, run.family, run.training.epochs) as advance:
        while not run.finished:
            epoch = run.step()
            advance(epoch)
            if on_epoch is not None and on_epoch(epoch, run.model):
                break
    return run.result()


@contextmanager
def _progress(console: Console | None, name: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    if console is None or not console.is_terminal or console.quiet:
        yield lambda epoch: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(name, total=epochs)

        def advance(epoch: Epoch) -> None:
            bar.update(task, completed=epoch.number, description=f"{name} log-loss {epoch.validation_log_loss:.4f}")

        yield advance
