"""What ``gristmill export`` writes, as trainers take it: TRL's, on tiny random models, two steps each."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.with_vllm.models import MIXTURE, PROCESS

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

HERE = Path(__file__).parents[2]
FORMATS = ("messages", "prompt-completion", "preference", "step-rewards", "sharegpt", "alpaca")
TRACE = "<think>\nI add them.\n\nThat is all.\n</think>\n\nThe answer is \\boxed{{{answer}}}."


def gristmill(*arguments: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of a run of the sft pipeline, in every format, and the messages in each way of reasoning."""
    folder = tmp_path_factory.mktemp("trainers")
    problems = [{"id": f"p{i}", "question": f"What is {i} + {i % 7}?", "answer": str(i % 3)} for i in range(30)]
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    engine = {"kind": "scripted", "answers": [TRACE.format(answer=answer) for answer in (0, 1, 2)]}
    job = {
        "pipeline": "sft",
        "runner": "local",
        "settings": {
            "engine": engine,
            "load": {"source": "problems.jsonl"},
            "sample": {"n": 8},
            "deduplicate": {"operator": "synthesize.deduplicate", "threshold": 1.0, "ngram": 1},
        },
    }
    (folder / "job.yaml").write_text(json.dumps(job))
    gristmill("run", "job.yaml", cwd=folder)
    for name in FORMATS:
        gristmill("export", "latest", "--format", name, "--to", name, "--validation", "0.2", cwd=folder)
    for how in ("field", "drop"):
        gristmill("export", "latest", "--format", "messages", "--to", how, "--reasoning", how, cwd=folder)
    return folder


def loaded(folder: Path) -> Any:
    import datasets

    files = {split: str(folder / f"{split}-*.parquet") for split in ("train", "validation")}
    return datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder.parent / "cache"))


def trained(trainer: Any) -> None:
    """Train for two steps, and see that they changed something."""
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    found = trainer.train()
    assert found.global_step == 2
    assert math.isfinite(found.training_loss)
    assert any(not weight.equal(before[name]) for name, weight in trainer.model.named_parameters())


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def causal_model() -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(MIXTURE), AutoTokenizer.from_pretrained(MIXTURE)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_loads(place: Path, name: str) -> None:
    import datasets

    found = loaded(place / name)
    assert len(found["train"]) > 0 and len(found["validation"]) > 0
    by_card = datasets.load_dataset(str(place / name), cache_dir=str(place / "cache-card"))
    assert {split: len(rows) for split, rows in by_card.items()} == {split: len(rows) for split, rows in found.items()}
    assert not set(found["train"]["problem_id"]) & set(found["validation"]["problem_id"])


@pytest.mark.parametrize("name", ["messages", "prompt-completion", "field", "drop"])
def test_the_sft_trainer_takes_them_as_written(place: Path, tmp_path: Path, name: str) -> None:
    from trl import SFTConfig, SFTTrainer

    model, tokenizer = causal_model()
    config = SFTConfig(**settings(tmp_path), max_length=128)
    rows = loaded(place / name)
    trained(
        SFTTrainer(
            model, config, train_dataset=rows["train"], eval_dataset=rows["validation"], processing_class=tokenizer
        )
    )


def test_the_dpo_trainer_takes_preferences_as_written(place: Path, tmp_path: Path) -> None:
    from trl import DPOConfig, DPOTrainer

    model, tokenizer = causal_model()
    config = DPOConfig(**settings(tmp_path), max_length=128)
    rows = loaded(place / "preference")
    trained(DPOTrainer(model, args=config, train_dataset=rows["train"], processing_class=tokenizer))


def test_the_prm_trainer_takes_step_rewards_as_written(place: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForTokenClassification, AutoTokenizer
    from trl.experimental.prm import PRMConfig, PRMTrainer

    model = AutoModelForTokenClassification.from_pretrained(PROCESS)
    config = PRMConfig(**settings(tmp_path), max_length=128)
    rows = loaded(place / "step-rewards")
    tokenizer = AutoTokenizer.from_pretrained(PROCESS)
    trained(PRMTrainer(model, config, train_dataset=rows["train"], processing_class=tokenizer))
