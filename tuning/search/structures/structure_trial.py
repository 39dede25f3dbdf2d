"""A structure's trial: one step, on predictions that every worker maps from the object store once."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from ray import tune

from quorate.fusion.errors import QuorateError
from quorate.tuning.search.structures.evaluation import evaluate
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Table


class StructureTrial(tune.Trainable):
    """Evaluates one structure; a failure's reason is its outcome."""

    def setup(self, config: dict[str, Any], table: Table | None = None) -> None:
        if table is not None:
            torch.set_num_threads(1)
            # Rules make tensors of these; torch warns about arrays it may not write to.
            self._table = Table(table.columns, table.probs.copy(), table.labels.copy(), table.overhead, table.batch)
        self._structure, self._seed = Structure.from_json(config["structure"]), config["seed"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            found = evaluate(self._structure, self._table, self._seed)
        except (QuorateError, ValueError, ArithmeticError, RuntimeError) as error:
            return {"done": True, "outcome": json.dumps({"failure": f"{type(error).__name__}: {error}"[:500]})}
        values = {name: value for name, value in found.values.items() if math.isfinite(value)}
        outcome = {"structure": found.structure.to_json(), "values": values}
        return {"done": True, **values, "outcome": json.dumps(outcome)}
