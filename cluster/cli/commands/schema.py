from __future__ import annotations

import json


def schema() -> None:
    """Print a JSON schema of specs, for editors that complete and check them.

    Example: quorate schema > spec.schema.json
    """
    from quorate.cluster.operations.exports import schema as operation

    print(json.dumps(operation.schema(), indent=2))
