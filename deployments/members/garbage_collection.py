"""What a replica has loaded by the time it serves is no garbage, and need not be looked through for any."""

from __future__ import annotations

import gc


def spare_loaded() -> None:
    """Take everything that lives now out of the collector's sight, for good.

    torch and Ray bring some hundred thousand objects. A collection of the oldest generation walks over all of them,
    for tens of milliseconds in which no request goes on; without them it is over before anyone notices.
    """
    gc.collect()
    gc.freeze()
