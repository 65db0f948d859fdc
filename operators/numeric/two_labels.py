"""Two labels: how far each worker can be believed, learnt from how workers agree, and what that makes of each task.

A hierarchical Dawid-Skene model (Dawid and Skene 1979; Kim and Ghahramani 2012, "Bayesian Classifier Combination"),
by variational inference. How often a worker is right has a Beta prior around the mean of all workers; how much workers
differ, the prior's strength, is what makes the labels most likely. So equal workers get equal weights, and the vote of
a majority is what comes out; without that, chance differences between them would be taken for skill.

Explanations of the same labels are compared. Workers are right equally often on both labels; or more often on one than
on the other (some always say yes); or one of the labels is true more often; or both. Where the first isn't enough, it
takes those for good workers who share a habit, and errs more than the plain vote. The others are hard to tell apart:
that everybody says yes may be a habit, or the truth. So the second is believed where it is much more likely than the
first and the third, and the fourth, which may have one label truer than the other, reads nearly all tasks as it does.
Elsewhere all workers weigh the same. The third and the fourth are only there to be compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.later import Floats, Ints, np, special

STRENGTHS = (2.0, 6.0, 20.0, 60.0, 200.0, 10_000.0)
"""Of the workers' common prior, in labels; with the last they are all equal."""
ROUNDS, CLOSE = 100, 1e-6
BETTER, CLEARLY = 10.0, 20.0
"""By how much (in nats) the habits of workers must explain more than workers without habits, and than a label that is
true more often. With two of seven workers who always say yes and a truth that is yes in 8 of 10 tasks, the habits alone
explain up to 37 more than the truth alone, and err twice as often as a vote: hence the next."""
APART = 0.1
"""Share of tasks that may be read otherwise where habits and the truth are learnt together."""


@dataclass(frozen=True)
class Labels:
    """Labels 0 or 1, one answer each: shape [answers]; workers and tasks are numbered from 0 without gaps."""

    worker: Ints
    task: Ints
    label: Ints


@dataclass(frozen=True)
class _Fit:
    """The chance that each task's label is 1, shape [tasks], and a lower bound on the labels' log-likelihood."""

    chance: Floats
    evidence: float


def chances(data: Labels) -> Floats:
    """Return the probability that label 1 is true of each task, shape [tasks]."""
    alike = _best(data, by_label=False, skewed=False)
    by_label = _best(data, by_label=True, skewed=False)
    skewed = _best(data, by_label=False, skewed=True)
    # each of the others has one number more, learnt from all answers or from all tasks (Schwarz's criterion)
    habits = by_label.evidence - 0.5 * np.log(len(data.label))
    truth = skewed.evidence - 0.5 * np.log(len(alike.chance))
    if habits <= alike.evidence + BETTER:
        return alike.chance
    if habits > truth + CLEARLY:
        both = _best(data, by_label=True, skewed=True)
        if np.mean((both.chance > 0.5) != (by_label.chance > 0.5)) <= APART:
            return by_label.chance
    equal = _fit(data, STRENGTHS[-1], by_label=False, skewed=False).chance
    ahead = np.bincount(data.task, weights=2.0 * data.label - 1.0)
    return np.where(ahead == 0, 0.5, equal)


def _best(data: Labels, by_label: bool, skewed: bool) -> _Fit:
    fits = [_fit(data, strength, by_label, skewed) for strength in STRENGTHS]
    return max(fits, key=lambda fit: fit.evidence)


def _fit(data: Labels, strength: float, by_label: bool, skewed: bool) -> _Fit:
    """Fit one explanation from the plain votes.

    Args:
        strength: of the workers' common prior.
        by_label: whether a worker may be right more often on one label than on the other.
        skewed: whether one label may be true more often.
    """
    worker, task = data.worker, data.task
    hit = np.stack([data.label == 0, data.label == 1])
    votes = np.bincount(task, weights=data.label)
    given = np.bincount(task)
    chance = (votes + 0.1) / (given + 0.2)
    evidence = -np.inf
    for _ in range(ROUNDS):
        is_true: Floats = np.stack([1.0 - chance, chance])
        hits = np.stack([np.bincount(worker, weights=np.where(hit[c], is_true[c][task], 0.0)) for c in (0, 1)])
        seen = np.stack([np.bincount(worker, weights=is_true[c][task]) for c in (0, 1)])
        if not by_label:
            hits, seen = hits.sum(axis=0, keepdims=True), seen.sum(axis=0, keepdims=True)
        mean = (hits.sum(axis=1, keepdims=True) + 0.5) / (seen.sum(axis=1, keepdims=True) + 1.0)
        a, b = strength * mean + hits, strength * (1.0 - mean) + seen - hits
        right, wrong = special.digamma(a) - special.digamma(a + b), special.digamma(b) - special.digamma(a + b)
        apart = special.betaln(strength * mean, strength * (1.0 - mean)) - special.betaln(a, b)
        divergence = float((apart + hits * right + (seen - hits) * wrong).sum())
        right, wrong = (np.broadcast_to(table, (2, table.shape[1])) for table in (right, wrong))
        says: list[Floats] = [np.where(hit[c], right[c][worker], wrong[c][worker]) for c in (0, 1)]
        prior = is_true.sum(axis=1) + 1.0
        logs = np.log(prior / prior.sum()) if skewed else np.log([0.5, 0.5])
        score = logs[:, None] + np.stack([np.bincount(task, weights=says[c]) for c in (0, 1)])
        evidence = float(np.logaddexp(score[0], score[1]).sum()) - divergence
        before, chance = chance, special.expit(score[1] - score[0])
        if np.abs(chance - before).max() < CLOSE:
            break
    return _Fit(chance, evidence)
