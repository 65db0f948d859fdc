"""DeepConf's summaries of a trace, against their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.confidence import Watch, confidences, of_tokens


@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 10**6))
def test_groups_are_sliding_means(tokens: int, window: int, seed: int) -> None:
    top = np.log(np.random.default_rng(seed).dirichlet(np.ones(20), size=tokens))
    found = confidences(of_tokens(top), window)
    each = -top.mean(axis=1)
    groups = [each[at : at + window].mean() for at in range(tokens - window + 1)] or [each.mean()]
    assert found.lowest == pytest.approx(min(groups))
    assert found.bottom == pytest.approx(np.mean(sorted(groups)[: max(1, len(groups) // 10)]))
    assert found.tail == pytest.approx(each[-window:].mean())
    assert found.mean == pytest.approx(each.mean())


def test_what_a_guide_made_impossible_does_not_count() -> None:
    top = np.array([[-1.0, -np.inf, -np.inf], [-1.0, -3.0, -np.inf]])
    assert confidences(of_tokens(top)) == pytest.approx((1.5, 1.5, 1.5, 1.5))


def test_a_trace_without_tokens_has_no_confidence() -> None:
    assert np.isnan(confidences(of_tokens(np.empty((0, 20))))).all()


@given(st.integers(1, 40), st.integers(1, 10), st.integers(1, 7), st.integers(0, 10**6))
def test_a_watch_sees_the_first_group_below_its_threshold(tokens: int, window: int, step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    top = np.log(rng.dirichlet(np.ones(20), size=tokens))
    each = -top.mean(axis=1)
    groups = [each[at : at + window].mean() for at in range(tokens - window + 1)]
    threshold = float(rng.uniform(each.min(), each.max()))
    first = next((at + window for at, mean in enumerate(groups) if mean < threshold), None)
    watch = Watch(window, threshold)
    seen = next((end for end in range(step, tokens + step, step) if watch.sees(top[end - step : end])), None)
    assert seen == (None if first is None else -(-first // step) * step)
