"""Proposals of what to try next, by Optuna, such that who finishes first changes nothing.

Trials are proposed a generation at a time, knowing all generations but the one before, which runs meanwhile, told in
the order of their numbers; the sampler is seeded anew for each generation from the sweep's seed. One worker or four
then see the same proposals, and a sweep that is taken up again replays its journal and goes on as if it had never
stopped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from quorate.tuning.search.journal import Finished
from quorate.tuning.search.space import SamplerName

Define = Callable[[optuna.Trial], Any]
optuna.logging.set_verbosity(optuna.logging.ERROR)


class Proposals:
    """One study in memory: its journal is ours, its state can always be made again from it."""

    def __init__(self, define: Define, objectives: int, sampler: SamplerName, seed: int, generation_size: int):
        """
        Args:
            define: asks a trial for its parameters.
            objectives: how many values a trial is told, all to be made small.
            sampler: tpe (Bergstra et al. 2011; several objectives: Ozaki et al. 2020), nsga2 (Deb et al. 2002), random.
            seed: of every proposal.
            generation_size: trials proposed before any of them is told.
        """
        self._define, self._sampler, self._seed, self._size = define, sampler, seed, generation_size
        self._study = optuna.create_study(directions=["minimize"] * objectives, sampler=RandomSampler(seed=seed))

    def ask(
        self, generation: int, count: int, fixed: Sequence[Mapping[str, Any]] = ()
    ) -> list[tuple[optuna.Trial, Any]]:
        """Propose a generation: trials, whose ``params`` hold the proposal, flat, and what ``define`` made of each.

        Args:
            fixed: params of the first trials, where these are known.
        """
        self._study.sampler = self._make_sampler(generation)
        for params in fixed:
            self._study.enqueue_trial(dict(params))
        trials = [self._study.ask() for _ in range(count)]
        return [(trial, self._define(trial)) for trial in trials]

    def tell(self, trial: optuna.Trial, values: Sequence[float] | None) -> None:
        """Say what a trial gave; None for one that failed."""
        if values is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(trial, list(values))

    def learn(self, finished: Sequence[Finished], values: Mapping[int, Sequence[float]]) -> None:
        """Add trials that were proposed by another study, with what they are worth now."""
        self._study.sampler = RandomSampler(seed=0)  # an expensive sampler would compute proposals that nobody reads
        for trial in finished:
            self._study.enqueue_trial(dict(trial.params))
            asked = self._study.ask()
            self._define(asked)
            self.tell(asked, values.get(trial.number))

    def _make_sampler(self, generation: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, generation]).generate_state(1)[0])
        if self._sampler == "random":
            return RandomSampler(seed=seed)
        if self._sampler == "nsga2":
            return NSGAIISampler(population_size=self._size, seed=seed)
        with warnings.catch_warnings():  # Optuna calls its own grouped TPE experimental
            warnings.simplefilter("ignore")
            return TPESampler(
                seed=seed, multivariate=True, group=True, constant_liar=True, n_startup_trials=self._size,
                warn_independent_sampling=False,
            )  # fmt: skip
