"""What a run's verdict says of promoting it, or another of its alternatives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quorate.tuning.errors import PromotionError
from quorate.tuning.runs.run_folder import REPORT


def read_advice(folder: Path) -> Mapping[str, Any]:
    """The report of a run; empty where there is none.

    Raises:
        PromotionError: it is damaged.
    """
    path = folder / REPORT
    if not path.is_file():
        return {}
    try:
        report = json.loads(path.read_bytes())
        if not isinstance(report, dict):
            raise ValueError("no object")
    except (OSError, ValueError, RecursionError) as error:
        raise PromotionError(str(path), f"cannot be read ({error})", "tune again") from None
    return report


def check_advice(folder: Path, pick: str | int | Mapping[str, str] | None, anyway: bool = False) -> str:
    """Refuse what the verdict advises against.

    Args:
        folder: the run's, or that of the pick for one of a sweep.
        pick: what was asked for; by output where there are several.
        anyway: only say what is lost.

    Returns:
        What is lost by the pick, in words; empty where nothing is, or nothing is known.

    Raises:
        PromotionError: the verdict is that nothing, or no ensemble, is worth serving, and this is one.
    """
    report = read_advice(folder)
    if "outputs" in report:
        return _of_outputs(folder, report["outputs"], pick if isinstance(pick, Mapping) else None, anyway)
    return _of_one(folder, report, pick if isinstance(pick, str | int) else None, anyway)


def _of_outputs(
    folder: Path, outputs: Mapping[str, Mapping[str, Any]], picks: Mapping[str, str] | None, anyway: bool
) -> str:
    """Of each output by itself; one for which nothing is worth serving stays as it was, unless something is picked."""
    if picks is None and all(report.get("decision") == "nothing" for report in outputs.values()):
        fix = "pick what is to be served all the same, and pass anyway (--anyway)"
        raise PromotionError(str(folder), "the verdict on each output is that nothing is worth serving", fix)
    lost = []
    for output, name in (picks or {}).items():
        said = _of_one(folder, outputs[output], name, anyway)
        lost += [f"{output}: {said}"] if said else []
    return "; ".join(lost)


def _of_one(folder: Path, report: Mapping[str, Any], pick: str | int | None, anyway: bool) -> str:
    advice = report.get("judgement", report)
    decision, alternatives = advice.get("decision"), advice.get("alternatives", {})
    recommended = advice.get("recommended")
    # A folder of a sweep holds the structure that was judged there, one of a tuned fusion the recommended alternative.
    name = "structure" if "judgement" in report else recommended if pick is None else str(pick)
    kind = alternatives.get(name, {}).get("kind", "ensemble")
    if name == recommended and decision != "nothing":
        return ""
    against = decision == "nothing" or (decision == "single" and kind == "ensemble")
    if against and not anyway:
        fix = "pass anyway (--anyway) to promote it all the same"
        better = ", or leave pick out" if decision == "single" and pick is not None else ""
        raise PromotionError(str(folder), f"the verdict is: {advice.get('verdict', 'against it')}", fix + better)
    gain = alternatives.get(name, {}).get("gain_of_recommended")
    if not gain:
        return ""
    return (
        f"{recommended} is recommended; {name} is worse by {gain['difference']:+.4f} {advice.get('metric', '')} "
        f"({gain['low']:+.4f} to {gain['high']:+.4f})"
    )
