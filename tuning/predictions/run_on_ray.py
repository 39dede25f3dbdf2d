"""Run one member over many rows on a Ray cluster: Ray Data streams blocks through actors on the member's GPUs.

Rows that one actor would get in one block go to a task instead, whose worker process stays for the next member: that
saves the seconds in which an actor starts.

Ray is imported inside functions only, because it reads its token and flags at import.
"""

# B batch, N rows, C classes

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quorate.deployments.control.forked_workers import worker_options
from quorate.deployments.control.placement import actor_options
from quorate.deployments.members.predictor import Predictor
from quorate.deployments.rows.uneven import is_uneven
from quorate.deployments.sources.loading import load_model
from quorate.deployments.spec.schema import MemberJob, Resources
from quorate.tuning.data.served_inputs import served_inputs
from quorate.tuning.errors import PredictionError, from_ray
from quorate.tuning.predictions.run_member import Inputs, Runner, predict_batch, run_in_process
from quorate.tuning.ray_session import MODULES, check_room, held_to, use_own_cpus

_ROW = "__row__"
# Small enough that a few blocks in flight per actor stay far below an object store, large enough to be worth a call.
_BLOCK_BYTES = 16 << 20
_FIX = "see the cluster's logs, correct the member"


def pick_runner() -> Runner:
    """``run_on_ray`` where this process is connected to a cluster, ``run_in_process`` elsewhere."""
    ray = sys.modules.get("ray")
    return run_on_ray if ray is not None and ray.is_initialized() else run_in_process


def call_on_ray(resources: Resources, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function on the cluster this process is connected to, where such resources are held."""
    import ray

    task = ray.remote(function).options(**actor_options(resources), **worker_options(MODULES))
    try:
        return ray.get(task.remote(*args))
    except ray.exceptions.RayError as error:
        raise from_ray(error, "measuring members", _FIX) from error


def run_on_ray(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
    """Run a member on the cluster this process is connected to.

    Args:
        job: the member; its resources and the upper bound of its replicas size the pool.
        folder: what its paths start from; it runs on nodes that see it.
        inputs: (N, *shape) each of its inputs.

    Returns:
        (N, C) over the ensemble's classes, or (N, K) values, rows in the order given; a row that the member failed on
        is NaN.

    Raises:
        PredictionError: it failed on every row, or the actors could not be started.
    """
    import ray
    import ray.data

    rows = len(next(iter(inputs.values())))
    needed = {name: inputs[name] for name in job.member.inputs} | served_inputs(inputs, job.inputs)
    few = job.member.replicas.max == 1 and sum(array.nbytes for array in needed.values()) <= _BLOCK_BYTES
    if few or any(map(is_uneven, needed.values())):
        return _run_as_task(job, folder, needed)
    rows_of = {name: (array.shape[1:], array.dtype) for name, array in needed.items()}
    probs = np.full((rows, len(job.classes or ())), np.nan, dtype=np.float32)
    with _quiet():
        answers = ray.data.from_arrow(list(_blocks(needed, job))).map_batches(
            _MemberActor,
            fn_constructor_kwargs={"job": job, "folder": folder.resolve(), "rows": rows_of},
            batch_size=job.member.max_batch_size,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=job.member.replicas.max),
            **_options(job, folder),
        )
        try:
            for batch in answers.iter_batches(batch_format="numpy", batch_size=None):
                part = batch["probabilities"]
                if np.isfinite(part).any():  # otherwise it tells no width
                    if not probs.shape[1]:
                        probs = np.full((rows, part.shape[1]), np.nan, dtype=np.float32)
                    probs[batch[_ROW]] = part
        except ray.exceptions.RayError as error:
            raise from_ray(error, f"members.{job.name}", _FIX) from error
    if np.isnan(probs).all():
        _run_as_task(job, folder, {name: array[:1] for name, array in needed.items()})  # says why
        raise PredictionError(f"members.{job.name}", "every row failed", "correct the member")
    return probs


def _run_as_task(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
    import ray

    task = ray.remote(_run_with_own_cpus).options(**_options(job, folder))
    try:
        found: NDArray[np.float32] = ray.get(task.remote(job, folder.resolve(), ray.put(inputs)))
    except ray.exceptions.RayError as error:
        raise from_ray(error, f"members.{job.name}", _FIX) from error
    return found


def _options(job: MemberJob, folder: Path) -> dict[str, Any]:
    """Ray's, for a worker that runs a member."""
    options, held = actor_options(job.member.resources) | worker_options(MODULES), held_to(folder)
    if held:
        check_room(job.member.resources, held)
        options["label_selector"] = {**options.get("label_selector", {}), **held}
    return options


def _run_with_own_cpus(job: MemberJob, folder: Path, inputs: Inputs) -> NDArray[np.float32]:
    use_own_cpus(job.member.resources)
    return run_in_process(job, folder, inputs)


class _MemberActor:
    """One loaded member, fed batches by Ray Data."""

    def __init__(self, job: MemberJob, folder: Path, rows: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]):
        """Args: rows: shape and dtype of each input's."""
        use_own_cpus(job.member.resources)
        self.job, self.rows = job, rows
        self.predictor = Predictor(load_model(job.name, job.member, folder), job)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        inputs = {name: _restored(batch[name], *described) for name, described in self.rows.items()}
        return {_ROW: batch[_ROW], "probabilities": predict_batch(self.predictor, self.job, inputs)}


def _blocks(inputs: Inputs, job: MemberJob) -> Iterator[pa.Table]:
    """Tables of consecutive rows, each with the rows' numbers, so that answers find their place in any order."""
    rows = len(next(iter(inputs.values())))
    row_bytes = max(1, sum(array.nbytes for array in inputs.values()) // max(1, rows))
    size = max(job.member.max_batch_size, min(_BLOCK_BYTES // row_bytes, -(-rows // (2 * job.member.replicas.max))))
    for start in range(0, rows, size):
        columns = {name: _column(array[start : start + size]) for name, array in inputs.items()}
        numbers = np.arange(start, min(start + size, rows))
        yield pa.table({_ROW: numbers, **columns})


def _column(array: NDArray[Any]) -> Any:
    if array.dtype == object:
        return pa.array([np.asarray(row, dtype=object).ravel().tolist() for row in array])
    flat = np.ascontiguousarray(array).reshape(len(array), -1)
    return pa.FixedShapeTensorArray.from_numpy_ndarray(flat.view(np.uint8))  # Arrow has no type for each of them


def _restored(column: NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.hasobject:
        return np.array([list(row) for row in column], dtype=object).reshape(len(column), *shape)
    restored: NDArray[Any] = np.ascontiguousarray(column, np.uint8).view(dtype).reshape(len(column), *shape)
    return restored


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data logs its progress to the terminal; ours is told through callbacks."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])
