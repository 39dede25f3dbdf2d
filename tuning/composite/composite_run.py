"""The training of a composite, epoch by epoch."""

# B batch, N rows, M members of the answer, C classes

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from quorate.fusion.base import Rule
from quorate.tuning.composite.columns import Columns
from quorate.tuning.composite.loss import Objective, Task, answer_loss, head_loss, imitation, mean_where
from quorate.tuning.composite.modality_dropout import left_out, modalities
from quorate.tuning.composite.network import Composite, Given, has_quorum
from quorate.tuning.composite.share import Share
from quorate.tuning.training.epochs import EpochRun, Training

_JUDGED_AT_ONCE = 1024
# Of the learning rate, for a member that comes with weights: it is to move, not to start again.
_PRETRAINED_SHARE = 0.1


class Trainable(nn.Module):
    """A composite, and the linear heads over branches that are thrown away when it is trained."""

    def __init__(self, composite: Composite, heads: Mapping[str, int], outputs: int):
        """Args:
        heads: number of features by trained member that gives features.
        outputs: C, or K values.
        """
        super().__init__()
        self.composite = composite
        self.heads = nn.ModuleDict({f"head_{name}": nn.Linear(width, outputs) for name, width in heads.items()})


class CompositeRun(EpochRun):
    """Trains what is trained of a graph.

    Attributes:
        model: a ``Trainable``.
    """

    model: Trainable

    def __init__(
        self,
        make_model: Callable[[], Trainable],
        rule: Rule | None,
        task: Task,
        training: Training,
        objective: Objective,
        rows: Columns,
        validation: Columns,
        unlabelled: Columns | None = None,
        share: Share | None = None,
    ):
        """Args:
        make_model: gives the network; its first parameters come from the seed.
        rule: of the answer; None for one without a slope, or one that is learned later: then branches are trained, each
            for itself.
        rows: to train on, with labels, a teacher's answers, or both.
        validation: rows that decide when to stop.
        unlabelled: rows for consistency, and for what a teacher says of them.
        share: this process's, where several train one network.
        """
        self._rule, self._task, self._objective, self._share = rule, task, objective, share
        self._columns, self._held_out = rows.to(training.device), validation.to(training.device)
        self._unlabelled = None if unlabelled is None else unlabelled.to(training.device)
        super().__init__(make_model, len(rows), training)
        composite = self.model.composite
        self._groups = modalities(composite.spec, composite.part)

    def _parameter_groups(self) -> list[dict[str, Any]]:
        composite, trained = self.model.composite, self.model.composite.part.trained
        pretrained = [n for n in trained if n in composite.spec.members and composite.spec.members[n].weights]
        slow = [one for name in pretrained for one in composite.module(name).parameters()]
        apart = set(map(id, slow))
        rest = [one for one in self.model.parameters() if one.requires_grad and id(one) not in apart]
        rate = self.training.learning_rate
        groups = [{"params": rest, "lr": rate}, {"params": slow, "lr": rate * _PRETRAINED_SHARE}]
        return [group for group in groups if group["params"]]

    def load_best(self) -> None:
        """Let the network be that of the best epoch.

        Raises:
            TuningError: no epoch's loss was finite.
        """
        model, _ = self.best_model()
        assert isinstance(model, Trainable)
        self.model = model.to(self.training.device)

    def answer(self, read: Mapping[str, Given]) -> Given:
        """The fused answer (B, C), and which rows have one; of a rule without a slope the mean of its members."""
        fusion = self.model.composite.spec.output_fusion
        members = [name for name in fusion.members if name in read]
        outputs, present = (torch.stack(parts) for parts in zip(*(read[name] for name in members), strict=True))
        enough = has_quorum(fusion, present) & present.any(dim=0)
        filled = present | ~enough
        if self._rule is not None:
            return self._rule.fuse(outputs, filled).values, enough
        shares = filled / filled.sum(dim=0)
        return (shares.unsqueeze(-1) * outputs).sum(dim=0), enough

    def _before_step(self) -> None:
        if self._share is not None:
            self._share.average(self.model)
        super()._before_step()

    def _loss_of(self, index: Tensor) -> Tensor:
        rows = self._columns.rows(index if self._share is None else self._share.of(index))
        read, auxiliary = self._run(rows, self._objective.member_dropout), self._objective.auxiliary
        loss = self._unlabelled_part(len(rows))
        if self._rule is None:
            return loss + (1 + auxiliary) * self._branch_part(read, rows)
        loss = loss + self._against_truth(*self.answer(read), rows)
        return loss + auxiliary * self._branch_part(read, rows) if auxiliary else loss

    def _run(self, rows: Columns, rate: float) -> dict[str, Given]:
        """What the nodes give, modalities left out at this rate."""
        there = dict(rows.there)
        if rate and len(set(self._groups.values())) > 1:
            for name, kept in left_out(self._groups, len(rows), rate, self.training.device).items():
                there[name] = there[name] & kept if name in there else kept
        composite = self.model.composite
        for name in composite.part.outside:  # behind one that is left out
            for source in composite.spec.members[name].inputs:
                there[name] = there[name] & there[source] if source in there else there[name]
        found: dict[str, Given] = composite(rows.values, there)
        return found

    def _against_truth(self, answer: Tensor, counted: Tensor, rows: Columns) -> Tensor:
        """Loss against labels, a teacher, or both by their shares."""
        losses = []
        share = 1.0 if rows.teacher is None else self._objective.label_share if rows.labels is not None else 0.0
        if rows.labels is not None and share:
            losses.append(share * mean_where(answer_loss(self._task, answer, rows.labels), counted))
        if rows.teacher is not None and share < 1:
            taught = imitation(self._task, answer, rows.teacher, self._objective.temperature)
            losses.append((1 - share) * mean_where(taught, counted))
        return torch.stack(losses).sum()

    def _branch_part(self, read: Mapping[str, Given], rows: Columns) -> Tensor:
        """Mean loss of members of the answer that depend on what is trained, and of branches' heads."""
        composite = self.model.composite
        inside = [name for name in composite.spec.output_fusion.members if name in composite.part.inside]
        losses = [self._against_truth(*read[name], rows) for name in inside]
        if rows.labels is not None:
            for key, head in self.model.heads.items():
                features, present = read[key.removeprefix("head_")]
                losses.append(mean_where(head_loss(self._task, head(features), rows.labels), present))
        return torch.stack(losses).mean()

    def _unlabelled_part(self, count: int) -> Tensor:
        """On as many rows without labels, drawn with replacement: consistency, and a teacher's answers."""
        loss = torch.zeros((), device=self.training.device)
        if self._unlabelled is None:
            return loss
        rows = self._unlabelled.rows(torch.randint(len(self._unlabelled), (count,)).to(self.training.device))
        answer, counted = self.answer(self._run(rows, self._objective.member_dropout))
        if self._objective.consistency:
            with torch.no_grad():
                whole, known = self.answer(self._run(rows, 0.0))
            apart = mean_where(imitation(self._task, answer, whole, 1.0), counted & known)
            loss = loss + self._objective.consistency * apart
        if rows.teacher is not None:
            loss = loss + mean_where(imitation(self._task, answer, rows.teacher, self._objective.temperature), counted)
        return loss

    def _judged(self) -> tuple[float, float]:
        """Loss and accuracy of the answer; where there are no labels, against what the teacher says."""
        if self._share is not None:
            self._share.same_buffers(self.model)
        self.model.eval()
        with torch.inference_mode():
            parts = [self._judged_part(part) for part in self._held_out.parts(_JUDGED_AT_ONCE)]
        loss, right, count = (float(sum(column)) for column in zip(*parts, strict=True))
        found = loss / max(count, 1), right / max(count, 1)
        return found if self._share is None else self._share.as_the_first(found)

    def _judged_part(self, rows: Columns) -> tuple[float, float, int]:
        answer, counted = self.answer(self._run(rows, 0.0))
        count = int(counted.sum())
        if rows.labels is None:
            assert rows.teacher is not None
            loss, truth = imitation(self._task, answer, rows.teacher, 1.0), rows.teacher.argmax(dim=1)
        else:
            loss, truth = answer_loss(self._task, answer, rows.labels), rows.labels
        right = (answer.argmax(dim=1) == truth) if truth.dim() == 1 else torch.zeros_like(counted)
        return float(mean_where(loss, counted)) * count, float((right & counted).sum()), count

    def outputs(self, rows: Columns) -> list[Given]:
        """What each member of the answer says, in evaluation mode: what a learned rule is fitted on."""
        self.model.eval()
        members = self.model.composite.spec.output_fusion.members
        with torch.inference_mode():
            parts = [self._run(part.to(self.training.device), 0.0) for part in rows.parts(_JUDGED_AT_ONCE)]
        return [
            (torch.cat([part[name][0] for part in parts]).cpu(), torch.cat([part[name][1] for part in parts]).cpu())
            for name in members
        ]
