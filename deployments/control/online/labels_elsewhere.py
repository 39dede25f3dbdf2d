"""Labels that came to one door, for answers that doors of other nodes have recorded in folders of their own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

if TYPE_CHECKING:
    from quorate.deployments.learning.feedback import Verdict
    from quorate.deployments.wire.feedback import GivenLabel

_log = logging.getLogger(__name__)
# Who waits is the client that gave the labels, for these alone.
TIMEOUT_S = 5.0


def give_elsewhere(apps: Sequence[str], labels: Sequence[GivenLabel]) -> list[Verdict]:
    """What doors make of labels: what the first says that knows the answer's replica.

    Args:
        apps: applications of doors; of each one replica is asked, since those of a node share its folder.
    """
    asked = {app: serve.get_app_handle(app).take_labels.remote(list(labels)) for app in apps}
    found: list[Verdict] = [("unknown", "no door of this ensemble has given such an answer")] * len(labels)
    silent = []
    for app, answer in asked.items():
        try:
            told: list[Verdict] = answer.result(timeout_s=TIMEOUT_S)
        except (RayError, RayServeException, TimeoutError) as error:
            silent.append(app)
            _log.warning("%s was not given %d labels: %s", app, len(labels), str(error).splitlines()[-1:])
            continue
        found = [new if old[0] == "unknown" else old for old, new in zip(found, told, strict=True)]
    if silent:
        why = f"no door that answers has given such an answer, and {len(silent)} did not answer; send it again later"
        found = [("unknown", why) if verdict[0] == "unknown" else verdict for verdict in found]
    return found
