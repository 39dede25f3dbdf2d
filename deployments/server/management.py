"""What clients ask about models and the server besides inference: configuration, statistics, the repository's index.

Features that Quorate does not have answer as Triton does where it has them switched off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import orjson

from quorate.deployments.engine.requests.request import DEFAULT_PRIORITY, PRIORITY_LEVELS
from quorate.deployments.errors import NotFoundError, RequestError, UnavailableError, UnsupportedError
from quorate.deployments.server.service import Service
from quorate.deployments.server.telemetry_settings import TelemetrySettings
from quorate.deployments.spec.patch import without_files
from quorate.deployments.wire.inference import VERSION, Scalar
from quorate.deployments.wire.limits import MAX_ROWS

# There is no cache of answers: their count stays 0.
_NOT_COUNTED = ("cache_hit", "cache_miss")


class Management:
    """Answers in plain data, the same for every wire."""

    def __init__(self, service: Service):
        self._service = service
        self._telemetry = TelemetrySettings(service.engine, service.configure)

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """A model's configuration, as far as Triton's fields fit; the ensemble's fusion is a parameter."""
        metadata = self._service.model_metadata(model, version)
        config = {
            "name": model,
            "platform": metadata["platform"],
            "backend": "quorate",
            "max_batch_size": MAX_ROWS,
            "input": [_tensor(tensor) for tensor in metadata["inputs"]],
            "output": [_tensor(tensor) for tensor in metadata["outputs"]],
        }
        revision = self._service.engine.revision
        if model == revision.spec.name:
            config["dynamic_batching"] = {
                "priority_levels": PRIORITY_LEVELS,
                "default_priority_level": DEFAULT_PRIORITY,
            }
            fusion = without_files(revision.fusion.model_dump(mode="json"))
            config["parameters"] = {
                "revision": {"string_value": revision.name},
                "fusion": {"string_value": orjson.dumps(fusion).decode()},
                "task": {"string_value": revision.spec.inferred_task},
            }
            if revision.views:
                fusions = {name: without_files(v.fusion.model_dump(mode="json")) for name, v in revision.views.items()}
                config["parameters"] = {
                    "revision": {"string_value": revision.name},
                    "fusions": {"string_value": orjson.dumps(fusions).decode()},
                }
        return config

    def statistics(self, model: str = "", version: str = "") -> dict[str, Any]:
        """Requests counted since this replica started, of one model or of all."""
        if model:
            self._service.check_model(model, version)
        return {"model_stats": [self._statistics(name) for name in ([model] if model else self._service.models)]}

    def index(self, ready: bool = False) -> list[dict[str, str]]:
        """Every model and its state; with ``ready`` only those that take calls."""
        models = []
        for name in self._service.models:
            if self._service.model_ready(name):
                models.append({"name": name, "version": VERSION, "state": "READY"})
            elif not ready:
                reason = "too few replicas take calls"
                models.append({"name": name, "version": VERSION, "state": "UNAVAILABLE", "reason": reason})
        return models

    async def load(self, model: str, parameters: Mapping[str, Scalar]) -> None:
        """With a ``config``, publish it as a revision. Anything else of loading over the network is off.

        Raises:
            RequestError: a file is sent along, or ``config`` is no revision.
            UnavailableError: no config, or it could not be published.
        """
        for name in parameters:
            if name != "config":
                raise RequestError(
                    f"parameter {name[:60]} is not for loading; files come with the spec: use quorate deploy"
                )
        config = parameters.get("config")
        if config is None:
            self.unload()
        if not isinstance(config, str):
            raise RequestError(f"parameter config is {config!r:.60}; send a string of JSON")
        await self._service.publish(model, config)

    def unload(self) -> NoReturn:
        """Triton's answer where models are not loaded and unloaded by hand."""
        raise UnavailableError(
            "explicit model load / unload is not allowed; members come and go with the spec: use quorate deploy"
        )

    async def trace(self, model: str = "", given: Mapping[str, Any] | None = None) -> dict[str, str | list[str]]:
        """Which requests to a model are traced, or to all without settings of their own; ``given`` changes it first."""
        if model:
            self._service.check_model(model)
        if given:
            await self._telemetry.change_trace(given, model)
        return self._telemetry.trace(model)

    async def logging(self, given: Mapping[str, Any] | None = None) -> dict[str, str | bool | int]:
        """What is logged, and how; ``given`` changes it first."""
        if given:
            await self._telemetry.change_logs(given)
        return self._telemetry.logs()

    def check_region(self, kind: str, name: str) -> None:
        """Raise NotFoundError for a region's name: none are registered. No name asks for all."""
        if name:
            raise NotFoundError(f"Unable to find {kind} shared memory region: '{name}'; none are registered")

    def register_shared_memory(self, kind: str, name: str) -> NoReturn:
        if kind == "cuda":
            raise RequestError(
                f"failed to register CUDA shared memory region: '{name}', GPUs not supported; send tensors as bytes"
            )
        raise UnsupportedError(
            f"failed to register shared memory region: '{name}', shared memory is not supported; send tensors as bytes"
        )

    def unregister_shared_memory(self) -> None:
        """Nothing is registered, so nothing is left to do: as in Triton, no error."""

    def _statistics(self, model: str) -> dict[str, Any]:
        statistics = self._service.statistics[model]
        return {
            "name": model,
            "version": VERSION,
            "last_inference": statistics.last_ms,
            "inference_count": statistics.rows,
            "execution_count": self._service.engine.metrics.executions(model),
            "inference_stats": {
                "success": {"count": statistics.succeeded, "ns": statistics.succeeded_ns},
                "fail": {"count": statistics.failed, "ns": statistics.failed_ns},
                "queue": {"count": statistics.succeeded, "ns": statistics.queued_ns},
                "compute_input": {"count": statistics.succeeded, "ns": statistics.input_ns},
                "compute_infer": {"count": statistics.succeeded, "ns": statistics.infer_ns},
                "compute_output": {"count": statistics.succeeded, "ns": statistics.output_ns},
                **{name: {"count": 0, "ns": 0} for name in _NOT_COUNTED},
            },
        }


def _tensor(metadata: dict[str, Any]) -> dict[str, Any]:
    datatype = "STRING" if metadata["datatype"] == "BYTES" else metadata["datatype"]
    return {"name": metadata["name"], "data_type": f"TYPE_{datatype}", "dims": metadata["shape"][1:]}
