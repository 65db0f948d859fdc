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
        timeout=900,
    )
    assert done.returncode == 0, done.stderr


def job(folder: Path, problems: list[dict[str, Any]], engine: dict[str, Any], sample: dict[str, Any]) -> None:
    """Run the sft pipeline on a script."""
    (folder / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    settings = {
        "engine": {"kind": "scripted", **engine},
        "load": {"source": "problems.jsonl"},
        "sample": {"n": 8, **sample},
        "deduplicate": {"operator": "synthesize.deduplicate", "threshold": 1.0, "ngram": 1},
    }
    (folder / "job.yaml").write_text(json.dumps({"pipeline": "sft", "runner": "local", "settings": settings}))
    gristmill("run", "job.yaml", cwd=folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of a run of the sft pipeline, in every format, and the messages in each way of reasoning."""
    folder = tmp_path_factory.mktemp("trainers")
    problems = [{"id": f"p{i}", "question": f"What is {i} + {i % 7}?", "answer": str(i % 3)} for i in range(30)]
    job(folder, problems, {"answers": [TRACE.format(answer=answer) for answer in (0, 1, 2)]}, {})
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


CALLED = "<tool_call>" + json.dumps({"name": "python", "arguments": {"code": "print(2 + 3, 'is said by a tool')"}})
MARKED = """\
{%- if tools %}<|im_start|>system
{{ tools | tojson }}<|im_end|>
{% endif %}
{%- for turn in messages %}<|im_start|>{{ turn.role }}
{% if turn.role == 'assistant' %}{% generation %}{{ turn.content }}
{%- for call in turn.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>
{% endgeneration %}{% else %}{{ turn.content }}<|im_end|>
{% endif %}{% endfor %}"""
"""A chat template that shows tools and calls, and says which tokens are the assistant's."""


def test_the_sft_trainer_learns_calls_and_not_what_tools_said(tmp_path: Path) -> None:
    """Episodes of tools, as written: the call and the answer are trained on, what the program printed isn't."""
    from trl import SFTConfig, SFTTrainer

    problems = [
        {"id": f"p{i}", "question": f"What is 2 + 3, asked for the {i}th time?", "answer": "5"} for i in range(8)
    ]
    script = {"answers": [CALLED + "</tool_call>"], "by_prompt": {"<|tool|>": ["It is \\boxed{5}."]}}
    job(tmp_path, problems, script, {"strategy": {"name": "tools", "rounds": 2}})
    gristmill("export", "latest", "--format", "messages", "--to", "out", "--validation", "0.2", cwd=tmp_path)
    rows = loaded(tmp_path / "out")["train"]
    turns = rows[0]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "assistant"]
    assert (
        turns[2]["content"] == "5 is said by a tool" and json.loads(rows[0]["tools"])[0]["function"]["name"] == "python"
    )

    model, tokenizer = causal_model()
    tokenizer.chat_template = MARKED
    config = SFTConfig(**settings(tmp_path), max_length=512, assistant_only_loss=True)
    trainer = SFTTrainer(model, config, train_dataset=rows, processing_class=tokenizer)
    for row in trainer.train_dataset:
        whole = tokenizer.decode(row["input_ids"])
        learned = tokenizer.decode([token for token in row["labels"] if token != -100])
        assert "5 is said by a tool<|im_end|>" in whole and "Run a Python program" in whole
        assert learned.startswith("<tool_call>") and "\\boxed{5}" in learned
        assert "5 is said by a tool<|im_end|>" not in learned and "What is" not in learned
        assert "Run a Python program" not in learned
    trained(trainer)
