"""Conversations with calls, names, parts and tools, all the way: loaded, asked, trained on, exported, loaded again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from cluster.driving.driver import run_pipeline
from cluster.planning.plan import make_plan
from cluster.records.reader import open_stage
from cluster.records.run import RunResult
from cluster.runners.local import LocalRunner
from cluster.storage.root import Root
from jobs.export.ask import Ask
from jobs.export.exporting import export
from operators.load import Load
from operators.sample.sampling import Sampling
from operators.strategies.tools import Tools
from operators.synthesize.choose import SynthesizeChoose
from operators.synthesize.sft import SynthesizeSft
from operators.verify.exact import VerifyExact
from pipelines.graph import Pipeline
from schemas.conversation import described, spoken
from schemas.engine import LlamaCppSpec, OpenAISpec, ScriptedSpec
from schemas.errors import BadInput
from tests.support import QUICK

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLS = [
    {"id": f"c{at}", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    for at, arguments in enumerate(({"city": "Paris", "days": [1, 2]}, {}, {"city": None}))
]
ASKED = [
    [
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Weather in Paris?", "name": "ann"},
        {"role": "assistant", "content": "", "tool_calls": CALLS[:2]},
        {"role": "tool", "content": "12 C", "tool_call_id": "c0"},
        {"role": "tool", "content": "?", "tool_call_id": "c1"},
    ],
    [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "How many?"},
                {"type": "image_url", "image_url": {"url": "https://x.org/12.png"}},
            ],
        }
    ],
    [
        {"role": "user", "content": "And then?"},
        {"role": "assistant", "content": "Which?"},
        {"role": "user", "content": "All."},
    ],
    [
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "I call.", "tool_calls": CALLS[2:]},
        {"role": "tool", "content": "12", "name": "weather", "tool_call_id": "c2"},
    ],
]  # fmt: skip
TAKING = "{{ tools }}{{ message.tool_calls }}{{ message.name }}"
THOUGHT = "I read it off.\n</think>\n\n12"
"""What a model writes whose chat template has opened the thought."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("talk") / "problems.jsonl"
    rows = [{"id": f"p{at}", "messages": turns, "answer": "12"} for at, turns in enumerate(ASKED)]
    rows[0]["tools"] = [TOOL]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pipeline(source: Path, engine: Any, **sampling: Any) -> Pipeline:
    made = Pipeline("talk")
    problems = made.stage("load", Load(source=str(source)))
    samples = made.stage("sample", Sampling(n=2, **sampling), engine=engine, problems=problems)
    verdicts = made.stage("verify", VerifyExact(extract=("last_line",)), problems=problems, samples=samples)
    paths = made.stage("choose", SynthesizeChoose(), samples=samples, verdicts=verdicts)
    made.stage("sft", SynthesizeSft(), problems=problems, samples=samples, verdicts=verdicts, paths=paths)
    return made


@pytest.fixture(scope="module")
def result(source: Path) -> RunResult:
    root = str(source.parent / "root")
    return run_pipeline(pipeline(source, ScriptedSpec(answers=(THOUGHT,))), LocalRunner(), root, QUICK)


def exported(result: RunResult, place: Path, name: Any, **more: Any) -> pl.DataFrame:
    export(result.root, result.manifest, Ask(format=name, to=str(place), validation=0.0, **more))
    return pl.read_parquet(place / "*.parquet").sort("problem_id")


def test_what_was_loaded_is_what_is_loaded_of_the_export(source: Path, result: RunResult, tmp_path: Path) -> None:
    rows = exported(result, tmp_path / "out", "messages")
    assert [turns[-1]["content"] for turns in rows["messages"].to_list()] == [f"<think>\n{THOUGHT}"] * 4
    first, again = (Load(source=str(place)).run().sort("problem_id") for place in (source, tmp_path / "out"))
    assert [spoken(turns) for turns in first["messages"].to_list()] == ASKED
    assert again["messages"].to_list() == first["messages"].to_list()
    assert again["tools"].to_list() == first["tools"].to_list()
    assert described(first["tools"][0]) == [TOOL]


def test_what_a_strategy_and_its_tools_said_is_loaded_again(tmp_path: Path) -> None:
    """Calls, what they brought and what the model was told of its tools: sampled, trained on, exported, loaded."""
    rows = [{"id": f"p{at}", "prompt": f"What is {at} + 5?", "answer": "12"} for at in range(2)]
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = {"name": "python", "arguments": {"code": "print(5 + 7, {'nested': [1, None]})"}}
    spec = ScriptedSpec(
        answers=(f"I count.\n<tool_call>{json.dumps(call)}</tool_call>",), by_prompt={"<|tool|>": ("It is\n12",)}
    )
    made = pipeline(tmp_path / "problems.jsonl", spec, strategy=Tools(rounds=2))
    result = run_pipeline(made, LocalRunner(), str(tmp_path / "root"), QUICK)
    assert result.manifest.state == "done", result.manifest.error
    rows = exported(result, tmp_path / "out", "messages")
    again = Load(source=str(tmp_path / "out")).run().sort("problem_id")
    for at, turns in enumerate(again["messages"].to_list()):
        asked, called, told = spoken(turns)
        assert asked == {"role": "user", "content": f"What is {at} + 5?"}
        assert called["content"] == "I count." and [one["function"] for one in called["tool_calls"]] == [call]
        assert told["role"] == "tool" and told["content"] == "12 {'nested': [1, None]}"
        assert told["tool_call_id"] == called["tool_calls"][0]["id"] and told["name"] == "python"
    assert [turns[-1]["content"] for turns in rows["messages"].to_list()] == ["It is\n12"] * 2
    assert described(again["tools"][0]) == Tools().offered


def test_messages_of_other_apis_are_what_they_become(tmp_path: Path) -> None:
    """Old functions, Anthropic's parts, a system turn and a history in columns: through a run, an export, and back."""
    function = {"name": "weather", "arguments": "{}"}
    used = {"type": "tool_use", "id": "t1", "name": "weather", "input": {}}
    rows = [
        {
            "messages": [
                {"role": "user", "content": "Weather?"},
                {"role": "assistant", "content": None, "function_call": function},
                {"role": "function", "name": "weather", "content": "12"},
            ],
            "functions": [TOOL["function"]],
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Weather there?"}]},
                {"role": "assistant", "content": [{"type": "text", "text": "I call."}, used]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "12"}]},
            ],
            "system": "Be brief.",
        },
        {"prompt": "And now?", "system": "S", "history": [["a", "b"]]},
    ]
    source = tmp_path / "problems.jsonl"
    source.write_text(
        "".join(json.dumps({"id": f"p{at}", "answer": "12", **row}) + "\n" for at, row in enumerate(rows))
    )
    first = Load(source=str(source)).run().sort("problem_id")
    assert [[turn["role"] for turn in turns] for turns in first["messages"].to_list()] == [
        ["user", "assistant", "tool"],
        ["system", "user", "assistant", "tool"],
        ["system", "user", "assistant", "user"],
    ]
    engine = ScriptedSpec(answers=(THOUGHT,))
    done = run_pipeline(pipeline(source, engine), LocalRunner(), str(tmp_path / "root"), QUICK)
    exported(done, tmp_path / "out", "messages")
    again = Load(source=str(tmp_path / "out")).run().sort("problem_id")
    assert again["messages"].to_list() == first["messages"].to_list()
    assert again["tools"].to_list() == first["tools"].to_list() and described(first["tools"][0]) == [TOOL]


def test_the_thought_is_where_a_trainer_wants_it(result: RunResult, tmp_path: Path) -> None:
    said: dict[str, dict[str, Any]] = {}
    for how in ("tags", "open", "field", "drop"):
        rows = exported(result, tmp_path / how, "prompt-completion", reasoning=how)
        [said[how]] = rows["completion"][1].to_list()
        spans = rows["thinking"][1].to_list()
        marked = [said[how]["content"][span["start"] : span["end"]] for span in spans]
        assert marked == {"tags": ["<think>\nI read it off.\n</think>"], "open": ["I read it off.\n</think>"]}.get(
            how, []
        )
    assert said["tags"]["content"] == f"<think>\n{THOUGHT}" and said["open"]["content"] == THOUGHT
    assert (said["field"]["content"], said["field"]["reasoning_content"]) == ("12", "I read it off.")
    assert said["drop"]["content"] == "12"


def test_a_format_refuses_what_it_has_no_place_for(result: RunResult, tmp_path: Path) -> None:
    for name, lacks in (("alpaca", "name, parts, tool_call_id, tool_calls, tools"), ("sharegpt", "name, parts")):
        with pytest.raises(BadInput, match=f"--format {name} has no place for {lacks}"):
            exported(result, tmp_path / name, name)


def test_the_engine_reads_all_of_it(result: RunResult) -> None:
    problems = open_stage(result.root, result.manifest, "load").collect().sort("problem_id")
    assert [spoken(turns) for turns in problems["messages"].to_list()] == ASKED
    samples = open_stage(result.root, result.manifest, "sample").collect()
    words = samples.sort("problem_id")["prompt_tokens"].to_list()
    assert words[0] > words[2], "tools and calls are read"


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (LlamaCppSpec(), "row 1 .problem 'p0'.: engine 'llama_cpp' can't take tools"),
        (LlamaCppSpec(chat_template="{{ tools }}{{ messages }}"), "row 1 .*can't take tool calls"),
        (LlamaCppSpec(chat_template="{{ tools }}{{ message.tool_calls }}"), "row 1 .*can't take names of speakers"),
        (LlamaCppSpec(chat_template=TAKING), "row 2 .*can't take parts of type 'image_url'"),
        (OpenAISpec(model="m", api="completions"), "row 1 .*engine 'openai' can't take parts|row 1 .*can't take tools"),
    ],
)  # fmt: skip
def test_an_engine_that_cannot_show_it_is_refused_in_the_plan(
    source: Path, tmp_path: Path, engine: Any, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        make_plan(pipeline(source, engine), Root(str(tmp_path)))


def test_a_server_is_sent_everything(source: Path, tmp_path: Path) -> None:
    plan = make_plan(pipeline(source, OpenAISpec(model="m")), Root(str(tmp_path)))
    assert len(plan.stages) == 5
