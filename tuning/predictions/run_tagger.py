"""Run one member over sequences of tokens, with the code that serves it: those of one length together, unpadded."""

# N tokens of all sequences, B sequences of T tokens, C classes

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.spec.schema import MemberJob, TensorSpec
from quorate.deployments.transport.row_state import RowState
from quorate.deployments.wire.datatypes import numpy_dtype
from quorate.fusion.sequences.decoding import one_behind_the_other
from quorate.tuning.errors import MemberPredictionError
from quorate.tuning.predictions.run_member import Inputs


def run_on_sequences(job: MemberJob, folder: Path, inputs: Inputs, sequences: NDArray[Any]) -> NDArray[np.float32]:
    """Run a member here.

    Args:
        job: the member, as its replicas would get it.
        folder: what its paths start from.
        inputs: (N, ...) each of its inputs of tokens; others are ignored.
        sequences: (N,) rows of one are its tokens, in this order.

    Returns:
        (N, C) over the ensemble's classes; all tokens of a sequence that the member failed on are NaN.

    Raises:
        MemberLoadError: the member cannot be loaded.
        MemberPredictionError: it failed on every sequence.
    """
    from quorate.deployments.members.predictor import Predictor
    from quorate.deployments.sources.loading import load_model

    predictor = Predictor(load_model(job.name, job.member, folder), job)
    found = np.full((len(sequences), len(job.classes or ())), np.nan, dtype=np.float32)
    for tokens in of_one_length(sequences, job.member.max_batch_size):
        values, status = predictor.run(sequence_inputs(job, inputs, tokens), probabilities=True)
        good = status == RowState.OK
        if good.any():
            found[tokens[good]] = values[good]
    if np.isnan(found).all():
        why = predictor.last_error or "no output is finite"
        raise MemberPredictionError(job.name, f"every sequence failed ({why})", predictor.last_trace)
    return found


def of_one_length(sequences: NDArray[Any], most: int) -> Iterator[NDArray[np.intp]]:
    """(B, T) numbers of the tokens of up to so many sequences of one length, until all were there."""
    order, starts, lengths = one_behind_the_other(sequences)
    for length in np.unique(lengths):
        alike = np.flatnonzero(lengths == length)
        for at in range(0, len(alike), most):
            yield order[starts[alike[at : at + most], None] + np.arange(length)]


def sequence_inputs(job: MemberJob, inputs: Inputs, tokens: NDArray[np.intp]) -> dict[str, NDArray[Any]]:
    """What the member reads of (B, T) tokens, (B, T, ...) each; of its lengths, T in each row."""
    found = {name: inputs[name][tokens] for name in job.member.inputs if name != job.lengths}
    if job.lengths is not None:
        found[job.lengths] = all_of_length(job.inputs[job.lengths], tokens)
    return {name: found[name] for name in job.member.inputs}


def all_of_length(tensor: TensorSpec, tokens: NDArray[np.intp]) -> NDArray[Any]:
    """The input that says how long rows are, for (B, T) tokens: T in each."""
    return np.full((len(tokens), *tensor.shape), tokens.shape[1], numpy_dtype(tensor.datatype))
