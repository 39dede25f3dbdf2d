"""Evidence that labels have to do with answers at all, rather than come independently, each with its own frequency.

By universal inference: what is known of each label before it comes, against the frequencies of all of them in hindsight
(Wasserman, Ramdas, Balakrishnan 2020, "Universal inference", PNAS 117(29)).
"""

from __future__ import annotations

import math


class LabelSense:
    """Over labels as they come.

    Attributes:
        counts: how often each class was said, and ``count`` of all of them.
        evidence: log of the likelihood ratio now.
        most: what that was at its height, after ``most_at`` labels.
    """

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count, self.evidence = 0, 0.0
        self.most, self.most_at = 0.0, 1
        self._known = self._entropy = 0.0

    def add(self, label: int, known: float) -> float:
        """The evidence after a label, the log of whose probability was known before it came."""
        seen = self.counts.get(label, 0)
        self.counts[label] = seen + 1
        self.count += 1
        self._known += known
        self._entropy += _entropy(seen + 1) - _entropy(seen)
        self.evidence = self._known - (self._entropy - _entropy(self.count))
        if self.evidence > self.most:
            self.most, self.most_at = self.evidence, self.count
        return self.evidence


def _entropy(count: int) -> float:
    return count * math.log(count) if count else 0.0
