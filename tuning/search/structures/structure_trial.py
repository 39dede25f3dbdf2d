"""A structure's trial: one step, on predictions that every worker maps from the object store once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from quorate.tuning.search.structures.evaluation import evaluate
from quorate.tuning.search.structures.structure import Structure
from quorate.tuning.search.structures.table import Table


class StructureTrial:
    """Evaluates one structure (``worker_pool.Trial``); a failure's reason is its outcome."""

    def __init__(self, config: Mapping[str, Any], table: Table):
        torch.set_num_threads(1)
        self._structure, self._seed, self._table = Structure.from_json(config["structure"]), config["seed"], table

    def step(self) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            found = evaluate(self._structure, self._table, self._seed)
        except Exception as error:  # whatever is wrong with one structure, the others go on
            return {}, {"failure": f"{type(error).__name__}: {error}"[:500]}
        values = {name: value for name, value in found.values.items() if math.isfinite(value)}
        return values, {"structure": found.structure.to_json(), "values": values}
