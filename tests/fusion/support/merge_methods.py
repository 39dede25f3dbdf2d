"""The merges that take a base and any number of members, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from quorate.fusion import dare, task_arithmetic, ties, uniform_soup

State = dict[str, Tensor]


def merges(base: State) -> dict[str, Callable[[dict[str, State]], State]]:
    return {
        "uniform_soup": uniform_soup,
        "task_arithmetic": lambda members: task_arithmetic(base, members, 0.4),
        "ties": lambda members: ties(base, members, keep=0.3),
        "dare": lambda members: task_arithmetic(base, dare(base, members, 0.5, seed=3), 0.4),
    }
