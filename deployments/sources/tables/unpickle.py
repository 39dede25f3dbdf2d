"""What ``quorate convert --to skops`` runs in a process of its own: reads an estimator's pickle, and writes it.

python -m quorate.deployments.sources.tables.unpickle FILE TARGET
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any


def main(source: Path, target: Path) -> tuple[int, dict[str, Any]]:
    """Write an estimator by skops; returns the exit code, and its class and the types that skops asks for."""
    import joblib
    import skops.io

    from quorate.deployments.sources.tables.sklearn import HARMLESS

    sys.path += [str(source.parent.resolve()), str(Path.cwd())]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimator = joblib.load(source)  # reads plain pickles, too
        if not hasattr(estimator, "predict") and not hasattr(estimator, "transform"):
            return 1, {"error": f"it holds a {type(estimator).__name__}, which neither predicts nor transforms"}
        skops.io.dump(estimator, target)
    except Exception as error:  # its code may raise anything at all
        return 1, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
    kind = type(estimator)
    types = [found for found in skops.io.get_untrusted_types(file=target) if found not in HARMLESS]
    return 0, {"module": f"{kind.__module__}:{kind.__qualname__}", "untrusted": types}


if __name__ == "__main__":
    code, said = main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(json.dumps(said))
    sys.exit(code)
