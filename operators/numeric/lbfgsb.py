"""Many small bounded minimisations at once: L-BFGS-B, vectorised over the problems.

A likelihood with several optima has one answer only if the road to it is fixed as well. So this follows the published
algorithm and its reference implementation (version 3.0, which scipy uses) rule by rule, with their steps, restarts and
stops: Byrd, Lu, Nocedal and Zhu 1995, the subspace step of Morales and Nocedal 2011, the line search of Moré and
Thuente 1994. What differs is bookkeeping: variables are few, so the limited-memory matrix is written out in full, and
every array has a row per problem. Problems are at different places of their searches; one evaluation serves them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from operators.numeric.linesearch import Lines, Rows
from schemas.later import Bools, Floats, Ints, np

Function = Callable[[Floats, Ints], tuple[Floats, Floats]]
"""(points [rows, variables], their problems' numbers [rows]) -> values [rows], gradients [rows, variables]."""

PAIRS = 10
"""Steps and gradient differences that are remembered."""
GRADIENT = 1e-5
"""Stop where the largest component of the projected gradient is at most this."""
DECREASE = 2.220446049250313e-09
"""Stop where a step lowers the value by at most this, relative to the value (or to 1 below 1)."""
TRIALS = 20
"""Evaluations per line search, after which the memory is dropped and the search starts anew."""
EPSILON = sys.float_info.epsilon


@dataclass
class _Search(Rows):
    """Where each search is.

    Attributes:
        number: of the problem.
        x, f, g: the last point, its value and gradient.
        iteration: points so far, without the first.
        steps, differences: the last of the steps and of the changes of the gradient, the newest last.
        pairs: how many of these there are.
        scale: the multiple of one that the quadratic model's matrix begins with.
        target: the next point, if the line search agrees.
        trials: evaluations of the current line search.
    """

    number: Ints
    x: Floats
    f: Floats
    g: Floats
    iteration: Ints
    steps: Floats
    differences: Floats
    pairs: Ints
    scale: Floats
    target: Floats
    trials: Ints


def minimize(
    function: Function, start: Floats, lower: Floats, upper: Floats, evaluations: int = 2500
) -> tuple[Floats, Bools]:
    """Return a local minimum of each problem, and whether its search ended as it should.

    Args:
        function: evaluates any of the problems, each at a point of its own. A value that isn't finite spoils the search
            of its problem alone.
        start: shape [problems, variables], within the bounds.
        lower, upper: shape [variables]; infinite where there is no bound.
        evaluations: a search that needs more has failed.

    Returns:
        The points where the searches ended, shape [problems, variables], and a Boolean per problem: False where no
        step lowered the value at the start, or where evaluations ran out. A search that ends because rounding hides
        all lower values has succeeded.
    """
    points, succeeded = start.copy(), np.zeros(len(start), dtype=np.bool_)
    search = _begin(function, start)
    flat = _projected_gradient(search, lower, upper) <= GRADIENT
    succeeded[flat] = True
    search = search.take(~flat)
    search, lines = _turn(search, lower, upper)
    for _ in range(evaluations):
        if not len(search.f):
            break
        direction = search.target - search.x
        whole = (lines.step == 1.0)[:, None]
        trial = np.where(whole, search.target, search.x + lines.step[:, None] * direction)
        f, g = function(trial, search.number)
        slope = _dot(g, direction)
        step, first_slope = lines.step, lines.slope
        found = lines.advance(f, slope)
        search.trials += 1
        stuck = ~found & (search.trials >= TRIALS)
        keeps = ~(stuck & (search.pairs == 0))
        _forget(search, stuck)
        moved, old = search.take(found), search.f[found]
        change = g[found] - moved.g
        moved.x, moved.f, moved.g = trial[found], f[found], g[found]
        moved.iteration += 1
        _remember(moved, (step[:, None] * direction)[found], change, (step * slope)[found], (step * first_slope)[found])
        search.put(found, moved)
        size = np.maximum(np.maximum(np.abs(old), np.abs(moved.f)), 1.0)
        converged = (old - moved.f <= DECREASE * size) | (_projected_gradient(moved, lower, upper) <= GRADIENT)
        points[moved.number], succeeded[moved.number] = moved.x, np.isfinite(moved.f)
        keeps[found] = ~converged
        turning = (found | stuck) & keeps
        turned, fresh = _turn(search.take(turning), lower, upper)
        waiting = keeps & ~turning
        search, lines = search.take(waiting).join(turned), lines.take(waiting).join(fresh)
    succeeded[search.number] = False
    return points, succeeded


def _begin(function: Function, start: Floats) -> _Search:
    number = np.arange(len(start))
    f, g = function(start, number)
    none = np.zeros(len(start), dtype=np.int64)
    memory = np.zeros((len(start), PAIRS, start.shape[1]))
    return _Search(
        number=number,
        x=start.copy(),
        f=f,
        g=g,
        iteration=none,
        steps=memory,
        differences=memory.copy(),
        pairs=none.copy(),
        scale=np.ones(len(start)),
        target=start.copy(),
        trials=none.copy(),
    )


def _dot(a: Floats, b: Floats) -> Floats:
    return np.vecdot(a, b)


def _apply(matrix: Floats, vector: Floats) -> Floats:
    return np.vecdot(matrix, vector[:, None, :])


def _projected_gradient(search: _Search, lower: Floats, upper: Floats) -> Floats:
    """Return the largest component of the step from x to x - g, cut at the bounds."""
    return np.abs(np.clip(search.x - search.g, lower, upper) - search.x).max(axis=1, initial=0.0)


def _forget(search: _Search, rows: Bools) -> None:
    search.pairs[rows] = 0
    search.scale[rows] = 1.0


def _remember(search: _Search, step: Floats, change: Floats, rise: Floats, first_rise: Floats) -> None:
    """Add the last step and the change of the gradient to the memory, where the curvature along it is positive.

    ``rise`` and ``first_rise`` are the products of the step with the gradients at its end and its beginning.
    """
    curvature = rise - first_rise
    good = curvature > EPSILON * -first_rise
    search.scale[good] = _dot(change, change)[good] / curvature[good]
    for memory, newest in ((search.steps, step), (search.differences, change)):
        memory[good, :-1] = memory[good, 1:]
        memory[good, -1] = newest[good]
    search.pairs[good] = np.minimum(search.pairs[good] + 1, PAIRS)


def _curvature(search: _Search) -> Floats:
    """Return the matrix of the quadratic model, shape [rows, variables, variables]: BFGS from a multiple of one."""
    steps, changes = (memory.transpose(1, 2, 0).copy() for memory in (search.steps, search.differences))
    matrix = search.scale * np.eye(search.x.shape[1])[:, :, None]  # rows last: numpy is fast along the last axis
    for age in range(int(search.pairs.max(initial=0)), 0, -1):
        step, change, known = steps[-age], changes[-age], search.pairs >= age
        pushed = (matrix * step).sum(axis=1)
        matrix += (change / np.where(known, (step * change).sum(axis=0), np.inf))[:, None] * change
        matrix -= (pushed / np.where(known, (step * pushed).sum(axis=0), np.inf))[:, None] * pushed
    return matrix.transpose(2, 0, 1).copy()


def _turn(search: _Search, lower: Floats, upper: Floats) -> tuple[_Search, Lines]:
    """Choose a target for every row and begin the line search to it; rows for which there is none are left out."""
    slope = _aim(search, lower, upper)
    uphill = ~(slope < 0) & (search.pairs > 0)
    if uphill.any():
        again = search.take(uphill)
        _forget(again, np.ones(len(again.f), dtype=np.bool_))
        slope[uphill] = _aim(again, lower, upper)
        search.put(uphill, again)
    search.trials[:] = 0
    downhill = slope < 0
    if not downhill.all():
        search, slope = search.take(downhill), slope[downhill]
    direction, first = search.target - search.x, search.iteration == 0
    limit = np.where(first, 1.0, np.clip(_room(search.x, direction, lower, upper), 1.0, 1e10))
    step = np.where(first, 1.0 / np.maximum(np.sqrt(_dot(direction, direction)), 1.0), 1.0)
    return search, Lines.begin(search.f, slope, step, limit)


def _room(x: Floats, direction: Floats, lower: Floats, upper: Floats) -> Floats:
    """Return how many times ``direction`` fits between each x and the bounds."""
    with np.errstate(all="ignore"):
        room = np.where(direction > 0, upper - x, lower - x) / direction
    return np.where(direction != 0, room, np.inf).min(axis=1)


def _aim(search: _Search, lower: Floats, upper: Floats) -> Floats:
    """Set ``target`` to the minimum of the quadratic model within the bounds, as far as two steps lead to it.

    The first goes to the first minimum along the bent path of steepest descent, the second to the minimum over the
    variables that it left free. Returns the slope towards the target.
    """
    x, g = search.x, search.g
    matrix = _curvature(search)
    corner, free = _cauchy(x, g, matrix, lower, upper)
    both = free[:, :, None] & free[:, None, :]
    rest = np.where(free, -g - _apply(matrix, corner - x), 0.0)
    newton = solve(np.where(both, matrix, np.eye(x.shape[1])), rest)
    newton[search.pairs == 0] = 0.0
    target = np.clip(corner + newton, lower, upper)
    cut = (target != corner + newton).any(axis=1) & (_dot(target - x, g) > 0)
    if cut.any():  # the projection spoiled the descent: go straight, as far as the bounds allow
        share = np.minimum(_room(corner, newton, lower, upper), 1.0)[:, None]
        target[cut] = np.clip(corner + share * newton, lower, upper)[cut]
    search.target[:] = target
    return _dot(target - x, g)


def _cauchy(x: Floats, g: Floats, matrix: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Bools]:
    """Return the first minimum of the model along the projected gradient, and which variables are within the bounds."""
    d = -g
    wall = np.where(d > 0, upper, lower)
    fixed = ((x == lower) & (d <= 0)) | ((x == upper) & (d >= 0))
    d[fixed] = 0.0
    with np.errstate(all="ignore"):
        breaks = np.where(d != 0, (wall - x) / d, np.inf)
    point, now = x.copy(), np.zeros(len(x))
    walking = np.ones(len(x), dtype=np.bool_)
    for _ in range(x.shape[1] + 1):
        pushed = _apply(matrix, d)
        slope, bend = _dot(g, d) + _dot(point - x, pushed), _dot(d, pushed)
        best = np.maximum(-slope, 0.0) / np.where(bend > 0, bend, np.inf)
        after = breaks.min(axis=1)
        stops = walking & (best < after - now)
        point[stops] += best[stops, None] * d[stops]
        walking &= ~stops & np.isfinite(after)
        if not walking.any():
            break
        point[walking] += (after - now)[walking, None] * d[walking]
        reached = walking[:, None] & (breaks <= after[:, None])
        point[reached], d[reached], breaks[reached] = wall[reached], 0.0, np.inf
        fixed |= reached
        now = np.where(walking, after, now)
    return np.clip(point, lower, upper), ~fixed


def solve(matrix: Floats, right: Floats) -> Floats:
    """Solve positive definite systems by elimination; one that is singular gives numbers that aren't finite."""
    matrix, right = matrix.copy(), right.copy()
    size = right.shape[1]
    with np.errstate(all="ignore"):
        for row in range(size):
            factor = matrix[:, row + 1 :, row] / matrix[:, row, row, None]
            matrix[:, row + 1 :] -= factor[:, :, None] * matrix[:, row, None, :]
            right[:, row + 1 :] -= factor * right[:, row, None]
        for row in reversed(range(size)):
            known = _dot(matrix[:, row, row + 1 :], right[:, row + 1 :])
            right[:, row] = (right[:, row] - known) / matrix[:, row, row]
    return right
