"""What labels call each class now: a Bayes filter for each, which forgets what was.

A class is called by its name, or, from some label on, another by a share: by one half, by most, by nearly all. Between
two labels that are about it, it may have become any of these (a hidden Markov model, whose forward recursion is Bayes
with fixed share: Herbster and Warmuth 1998, "Tracking the best expert"; Koolen and de Rooij 2013, "Universal codes from
switching strategies"). What is said of a class is believed where by most or by nearly all is likely, since by one half
explains classes that members merely confuse: only what beats that is a renaming. The likelihood of a label is that of
the relabelled answer of all members alike, so a class that one member knows by its new name is renamed to nobody; and
one label in a hundred may be anything.

Filters of several classes see each other by their means (assumed density filtering: Minka 2001, "A family of algorithms
for approximate Bayesian inference", section 3): for one class at a time that is Bayes exactly.
"""

# N labels, C classes, K likely classes of a row

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quorate.deployments.learning.online.relabelling.likely import NOBODY, Likely
from quorate.deployments.learning.online.relabelling.matrix import Relabels

Floats = NDArray[np.float64]
# The shares of a class that are called otherwise; from the second on it is renamed.
SHARES = (0.5, 0.8, 0.98)
_LEFT = tuple(1 - share for share in SHARES)
_ALL = sum(SHARES)
# A label is any of the classes so often, whatever members say.
NOISE = 0.01
# A class becomes another state so often, half of the times the one by its own name.
MOVES, HOME = 0.002, 0.5
# What a class is called is believed, and doubted, from this probability on.
CLEAR = 0.95
# Classes that are given less of a row say nothing of it.
MATERIAL = 0.05
# So many other names of one class are kept apart.
_APART = 8
# A share that has moved by no more is the same.
_STEADY = 0.05


class Renamings:
    """What is believed after the labels so far.

    Attributes:
        held: what classes are called.
    """

    def __init__(self, classes: int, first: Relabels):
        """Args:
        classes: C.
        first: what they are believed to be called before any label.
        """
        self.held, self._classes = first, max(classes, 2)
        self._states: dict[int, _States] = {}
        for old, column in first.columns.items():
            new = max(column, key=lambda one: column[one])
            if new != old:
                self._state(old).become(new)

    def learn(self, truth: NDArray[np.int64], likely: Likely) -> tuple[Floats, list[tuple[int, Relabels]]]:
        """Take N labels.

        Returns:
            (N,) the probability of each before it came, and what was believed after which of them, where that changed.
        """
        known, changes = np.empty(len(truth)), []
        others = (likely.means >= MATERIAL) & (likely.classes != truth[:, None]) & (likely.classes != NOBODY)
        rows = zip(truth.tolist(), likely.truth.tolist(), others.any(axis=1).tolist(), strict=True)
        for at, (label, own, some) in enumerate(rows):
            about: list[tuple[int, float]] = []
            if some:
                which = others[at]
                about = list(zip(likely.classes[at, which].tolist(), likely.means[at, which].tolist(), strict=True))
            known[at], changed = self._take(label, own, about)
            if changed:
                changes.append((at, self.held))
        return known, changes

    def share(self, of: int, new: int) -> float:
        """The mean share of a class that is called so."""
        state = self._state(of)
        return state.own if new == of else state.share(new)

    def _take(self, label: int, own: float, about: list[tuple[int, float]]) -> tuple[float, bool]:
        """The probability of a label by what members say of it and of other classes, and whether more is believed."""
        mine = self._state(label) if own >= MATERIAL else self._states.get(label)
        stays = own if mine is None else own * mine.own
        others = [(old, self._state(old), share) for old, share in about]
        said = [state.share(label) * share for _, state, share in others]
        total = NOISE / self._classes + (1 - NOISE) * (stays + sum(said))
        changed = False
        if mine is not None and own >= MATERIAL:
            mine.confirm(total / (1 - NOISE) - stays, own)
            changed = bool(mine.names) and self._believe(label, mine)
        for (old, state, share), part in zip(others, said, strict=True):
            state.surprise(label, total / (1 - NOISE) - part, share)
            changed |= self._believe(old, state)
        return total, changed

    def _state(self, of: int) -> _States:
        found = self._states.get(of)
        if found is None:
            found = self._states[of] = _States(self._classes - 1)
        return found

    def _believe(self, old: int, state: _States) -> bool:
        """Hold what is clear; what is not stays as it was."""
        now = self.held.columns.get(old)
        new, sure = state.renamed()
        if sure >= CLEAR:
            share = round(state.moved(new), 2)
            if now is not None and abs(now.get(new, 0.0) - share) <= _STEADY:
                return False
            self.held = self.held.having(old, {new: share, old: round(1 - share, 2)})
            return True
        if now is None or state.unrenamed() < CLEAR:
            return False
        self.held = self.held.having(old, {old: 1.0})
        return True


class _States:
    """Probabilities of what one class is called: by its name, or another by a share.

    Attributes:
        names: others that labels have said, each by its shares; all that none has said are alike.
        own: the mean share that is called by its own name.
    """

    __slots__ = ("_home", "_others", "_rest", "names", "own")

    def __init__(self, others: int):
        self._others = others
        self._home = 1 - MOVES
        self._rest = [MOVES / (others * len(SHARES))] * len(SHARES)
        self.names: dict[int, list[float]] = {}
        self.own = 1 - MOVES * sum(SHARES) / len(SHARES)

    def become(self, new: int) -> None:
        """Take it to be called so by nearly all."""
        self.names[new] = [*self._rest[:-1], self._home]
        self._home = self._rest[-1]
        self._move()

    def share(self, new: int) -> float:
        """The mean share that is called so."""
        half, most, nearly = self.names.get(new, self._rest)
        return SHARES[0] * half + SHARES[1] * most + SHARES[2] * nearly

    def renamed(self) -> tuple[int, float]:
        """The other name that is likeliest, and how likely it is that most are called so."""
        if not self.names:
            return NOBODY, 0.0
        new = max(self.names, key=lambda one: sum(self.names[one][1:]))
        return new, sum(self.names[new][1:])

    def unrenamed(self) -> float:
        """How likely it is that no more than half are called otherwise."""
        return self._home + self._sums()[0]

    def moved(self, new: int) -> float:
        """The share that is called so where most are."""
        _, most, nearly = self.names[new]
        return (SHARES[1] * most + SHARES[2] * nearly) / (most + nearly)

    def confirm(self, rest: float, said: float) -> None:
        """A label of its own name came, of a row that others explain by ``rest`` and this class by ``said``."""
        self._home *= rest + said
        half, most, nearly = rest + _LEFT[0] * said, rest + _LEFT[1] * said, rest + _LEFT[2] * said
        for part in (self._rest, *self.names.values()):
            part[0] *= half
            part[1] *= most
            part[2] *= nearly
        self._move()

    def surprise(self, new: int, rest: float, said: float) -> None:
        """A label of another name came, of such a row."""
        part = self.names.get(new)
        if part is None:
            part = self.names[new] = self._rest.copy()
        for at, share in enumerate(SHARES):
            part[at] *= (rest + share * said) / rest
        self._move()
        if len(self.names) > _APART:
            self._join()

    def _sums(self) -> tuple[float, float, float]:
        """By share, the probability that it is called any other name by that."""
        left = self._others - len(self.names)
        half, most, nearly = self._rest
        half, most, nearly = left * half, left * most, left * nearly
        for part in self.names.values():
            half, most, nearly = half + part[0], most + part[1], nearly + part[2]
        return half, most, nearly

    def _move(self) -> None:
        """Have probabilities the sum 1, and let the class become something else."""
        half, most, nearly = self._sums()
        kept = (1 - MOVES) / (self._home + half + most + nearly)
        anew = MOVES * (1 - HOME) / len(SHARES)
        away = anew / self._others
        self._home = self._home * kept + MOVES * HOME
        called = SHARES[0] * half + SHARES[1] * most + SHARES[2] * nearly
        self.own = 1 - kept * called - anew * _ALL
        for part in (self._rest, *self.names.values()):
            part[0] = part[0] * kept + away
            part[1] = part[1] * kept + away
            part[2] = part[2] * kept + away

    def _join(self) -> None:
        """Forget the name that is least likely to be one."""
        least = min(self.names, key=lambda one: sum(self.names[one]))
        del self.names[least]
        self._move()
