"""The ensemble that a trained one would replace: what it answers is one of the alternatives."""

# N rows, C classes

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.engine.offline_graph import OfflineGraph
from quorate.deployments.spec.ensemble import EnsembleSpec
from quorate.tuning.alternatives.unfitted import INCUMBENT
from quorate.tuning.data.labelled import Labelled
from quorate.tuning.errors import PredictionError
from quorate.tuning.evaluation.choice import GivenAnswers
from quorate.tuning.workflows.run_members import HELD_OUT, VALIDATION, Answered


@dataclass(frozen=True)
class Contest:
    """How a spec that was just made is compared with what it would replace.

    Attributes:
        where: the run's folder.
        called: what the spec's fusion as it is is called among the alternatives.
        before: what is served now; None where nothing can answer yet.
    """

    where: Path
    called: str
    before: Before | None


@dataclass(frozen=True)
class Before:
    """An ensemble as it was.

    Attributes:
        folder: what the spec's paths start from.
    """

    spec: EnsembleSpec
    folder: Path

    def beside(self, found: Answered, validation: Labelled, held_out: Labelled) -> tuple[Answered, GivenAnswers]:
        """The rows that it answers too, and what it says of them.

        Raises:
            PredictionError: it answers less than half of the rows.
            MemberLoadError, SpecError: a part of it cannot be built.
        """
        solving, solved = self._answers(validation, found.compared[VALIDATION])
        judging, judged = self._answers(held_out, found.compared[HELD_OUT])
        kept = replace(found, solve=found.solve.rows(solved), judge=found.judge.rows(judged))
        return kept, GivenAnswers(INCUMBENT, len(self.spec.output_fusion.members), solving[solved], judging[judged])

    def expected(self, data: Labelled, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Its answers to some rows."""
        return self._answers(data, rows)[0]

    def _answers(self, data: Labelled, rows: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """(N, C) of these rows, and the numbers of those among them that it answers."""
        graph = OfflineGraph(self.spec, self.folder, data.rows(rows).inputs)
        node = graph.node(self.spec.output_name)
        answered = np.flatnonzero(node.present)
        if len(answered) < len(rows) / 2:
            found = f"the ensemble as it was answers {len(answered)} of {len(rows)} rows"
            raise PredictionError("incumbent", found, "correct its members")
        return node.aligned.reshape(len(node.aligned), -1), answered
