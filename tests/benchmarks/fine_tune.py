"""A small model trained for a few steps on an exported set: does the loss on the held-out split fall?

    gristmill run arithmetic --set load.size=60
    gristmill export latest --format messages --to data/sft --validation 0.2
    .venv-vllm/bin/python -m tests.benchmarks.fine_tune --data data/sft

Needs ``make test-vllm``'s environment, which has TRL and the embedded model's weights for Transformers.
"""

# TRL, Transformers and datasets are only there, and only partly typed.
# pyright: reportMissingImports=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.with_vllm.models import SMOLLM2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder that gristmill export wrote (messages)")
    parser.add_argument("--model", type=Path, default=SMOLLM2)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    import datasets
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    files = {split: str(options.data / f"{split}-*.parquet") for split in ("train", "validation")}
    with tempfile.TemporaryDirectory() as folder:
        rows = datasets.load_dataset("parquet", data_files=files, cache_dir=folder)
        config = SFTConfig(
            output_dir=folder,
            max_steps=options.steps,
            per_device_train_batch_size=4,
            learning_rate=1e-5,
            max_length=256,
            report_to=[],
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            logging_strategy="no",
        )
        trainer = SFTTrainer(
            AutoModelForCausalLM.from_pretrained(options.model),
            config,
            train_dataset=rows["train"],
            eval_dataset=rows["validation"],
            processing_class=AutoTokenizer.from_pretrained(options.model),
        )
        before = trainer.evaluate()["eval_loss"]
        trainer.train()
        after = trainer.evaluate()["eval_loss"]
    print(f"{len(rows['train'])} rows, {options.steps} steps of 4: held-out loss {before:.4f} -> {after:.4f} ", end="")
    print(f"({len(rows['validation'])} rows of other problems)")


if __name__ == "__main__":
    main()
