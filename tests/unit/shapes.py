"""Public data sets' shapes: three rows each, as their files have them, and what each becomes."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Shape:
    """The rows of a data set, and what the first becomes; or the words in which it is refused.

    Attributes:
        suffix: of the file they are in.
        says: what the prompt of the first row contains.
        check: what its verification holds, by key.
        refused: words of the refusal, where the shape is refused.
        settings: what has to be said to load it.
    """

    name: str
    rows: list[Row]
    says: str = ""
    answer: str | None = None
    task: str = "math"
    check: Row = field(default_factory=dict[str, Any])
    suffix: str = ".jsonl"
    refused: tuple[str, ...] = ()
    settings: Row = field(default_factory=dict[str, Any])


def three(**columns: Any) -> list[Row]:
    """Return three rows; a callable gives each row's own value, a text gets the row's number where it has {n}."""
    return [
        {
            name: value(n) if callable(value) else value.replace("{n}", str(n)) if isinstance(value, str) else value
            for name, value in columns.items()
        }
        for n in (1, 2, 3)
    ]


def user(n: int) -> list[Row]:
    return [{"role": "user", "content": f"What is {n} + 3?"}]


def solved(n: int) -> list[Row]:
    return [*user(n), {"role": "assistant", "content": f"It is \\boxed{{{n + 3}}}."}]


def packed(cases: list[Row]) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


ADD = "def add(a, b):\n    return a + b\n"
CASES = [{"input": "1 2\n", "output": "3\n", "testtype": "stdin"}]
CALLS = [{"input": "1\n2", "output": "3", "testtype": "functional"}]
FOUR = ["one", "two", "three", "four"]

SHAPES = [
    # -- mathematics -------------------------------------------------------------------------------------------------
    Shape("GSM8K", three(question="What is {n} + 3?", answer="Add.\n#### {n}"), "What is 1 + 3?", "1"),
    Shape(
        "GSM8K, MGSM",
        three(question="Was ist {n} + 3?", answer="Schritt\n#### {n}", answer_number=lambda n: n, equation_solution=None),
        "Was ist 1",
        "1",
    ),
    Shape(
        "MATH",
        three(problem="Find $x$ of {n}.", level="Level 2", type="Algebra", solution="So $x = \\boxed{\\frac{{n}}{2}}$."),
        "Find $x$ of 1.",
        "\\frac{1}{2}",
    ),
    Shape(
        "MATH-500",
        three(problem="Find {n}.", solution="Thus \\boxed{9{n}}.", answer="9{n}", subject="Algebra", level=2, unique_id="t/{n}.json"),
        "Find 1.",
        "91",
    ),
    Shape(
        "NuminaMath-CoT",
        three(source="olympiads", problem="What is {n} + 3?", solution="It is \\boxed{{n}}.", messages=solved),
        "What is 1 + 3?",
        "1",
        suffix=".parquet",
    ),
    Shape(
        "NuminaMath-1.5",
        three(problem="What is {n}?", solution="…", answer="{n}", problem_type="Algebra", question_type="math-word-problem"),
        "What is 1?",
        "1",
    ),
    Shape(
        "OpenR1-Math-220k",
        three(
            problem="What is {n} + 3?", solution="So \\boxed{0}", answer="{n}", uuid="u{n}", generations=["<think>", "b"],
            correctness_math_verify=[True, False], messages=solved,
        ),
        "What is 1 + 3?",
        "1",
        suffix=".parquet",
    ),
    Shape(
        "DeepScaleR",
        three(problem="P{n}", answer="{n}", solution="because"),
        "P1",
        "1",
        suffix=".json",
    ),
    Shape("Big-Math-RL-Verified", three(problem="P{n}", answer="{n}", source="x", domain=["a"], llama8b_solve_rate=0.5), "P1", "1"),
    Shape(
        "DeepMath-103K",
        three(question="P{n}", final_answer="{n}", difficulty=5.0, topic="t", r1_solution_1="…", r1_solution_2="…"),
        "P1",
        "1",
    ),
    Shape(
        "verl GSM8K",
        three(
            data_source="openai/gsm8k", prompt=user, ability="math",
            reward_model=lambda n: {"style": "rule", "ground_truth": str(n + 3)},
            extra_info=lambda n: {"split": "train", "index": n, "answer": "…\n#### 0", "question": "q"},
        ),
        "What is 1 + 3?",
        "4",
        suffix=".parquet",
    ),
    Shape(
        "DAPO-Math-17k",
        three(
            data_source="math_dapo", prompt=user, ability="MATH",
            reward_model=lambda n: {"ground_truth": str(n + 3), "style": "rule-lighteval/MATH_v2"},
            extra_info=lambda n: {"index": f"i{n}"},
        ),
        "What is 1 + 3?",
        "4",
        suffix=".parquet",
    ),
    Shape(
        "DAPO-Math-17k-Processed",
        three(
            prompt="What is {n} + 3?", solution="{n}", data_source="math_dapo", source_prompt=user, ability="MATH",
            reward_model=lambda n: {"ground_truth": str(n), "style": "x"}, extra_info=lambda n: {"index": f"i{n}"},
        ),
        "What is 1 + 3?",
        "1",
        suffix=".parquet",
    ),
    Shape(
        "Skywork-OR1 (math)",
        three(
            data_source="train-math", prompt=user, ability="math",
            reward_model=lambda n: {"ground_truth": json.dumps([str(n + 3)]), "style": "rule"},
            extra_info=lambda n: {"index": n, "model_difficulty": {"a": 1}},
        ),
        "What is 1 + 3?",
        "4",
    ),
    Shape(
        "OlympiadBench",
        three(
            id=lambda n: n, question="P{n}", solution=["long"], final_answer=["$1$", "$-7$"], context=None, image_1=None,
            is_multiple_answer=True, unit=None, answer_type="Numerical", error=None,
        ),
        "P1",
        "$1$, $-7$",
        check={"answers": {"all": ["$1$", "$-7$"]}},
    ),
    Shape(
        "OlympiadBench with a tolerance",
        three(question="P{n}", solution=["long"], final_answer=["2.50"], is_multiple_answer=False, error="1e-1"),
        "P1",
        "2.50",
        check={"math": {"tolerance": {"absolute": 0.1}}},
    ),
    Shape("OmniMath", three(domain=["Algebra"], difficulty=8.0, problem="P{n}", solution="…", answer="{n}", source="x"), "P1", "1"),
    Shape(
        "AIME 2024 (Maxwell-Jia)",
        three(ID="2024-I-{n}", Problem="P{n}", Solution="So \\boxed{12}", Answer=lambda n: 200 + n),
        "P1",
        "201",
    ),
    Shape("AIME 2025", three(id="{n}", problem="P{n}", answer="7{n}"), "P1", "71"),
    Shape("MathArena", three(problem_idx=lambda n: n, problem="P{n}", answer=lambda n: n, problem_type=["Algebra"]), "P1", "1"),
    Shape("SVAMP", three(ID="chal-{n}", Body="Tom has {n} pens.", Question="How many pens?", Equation="( 1 )", Answer="{n}.0"),
          "Tom has 1 pens.\n\nHow many pens?", "1.0"),
    Shape("TheoremQA", three(Question="P{n}", Answer="{n}", Answer_type="integer", Picture=None), "P1", "1"),
    Shape("SciBench", three(problem_text="P{n}", answer_latex=" 4{n}", answer_number="4{n}", unit="m", problemid="1.{n}"), "P1", "41"),
    Shape("MetaMathQA", three(query="Q{n}", response="Work.\nThe answer is: {n}", type="GSM_AnsAug", original_question="o"), "Q1", "1"),
    Shape("MathInstruct", three(instruction="Q{n}", output="Work. The answer is {n}", source="x"), "Q1", "1"),
    Shape(
        "OpenMathInstruct-2",
        three(problem="Q{n}", generated_solution="…", expected_answer="{n}", problem_source="math"),
        "Q1",
        "1",
    ),
    Shape("NeMo-Skills' problems", three(problem="Q{n}", expected_answer="{n}", id="x{n}"), "Q1", "1"),
    Shape("OpenRLHF", three(input="Q{n}", label="{n}"), "Q1", "1"),
    Shape("Orca-Math", three(question="Q{n}", answer="Long.\nThe answer is {n}."), "Q1", "1"),
    Shape("PRIME SYNTHETIC-1", three(problem_id="s{n}", task_type="verifiable_math", prompt="Q{n}", gold_standard_solution="\\boxed{{n}}",
          verification_info=json.dumps({"ground_truth": "0"})), "Q1", "1", task="verifiable_math"),
    Shape("Eurus-2 (math)", three(data_source="numina", prompt=user, ability="math",
          reward_model=lambda n: {"ground_truth": str(n), "style": "rule"}, extra_info=lambda n: {"index": n}),
          "What is 1 + 3?", "1", suffix=".parquet"),
    # -- several choices ---------------------------------------------------------------------------------------------
    Shape("MMLU", three(question="Q{n}", subject="algebra", choices=FOUR, answer=2), "Q1\n\nA. one\nB. two", "C", "choice",
          {"choices": FOUR, "choice": 2}, suffix=".parquet"),
    Shape("MMLU with numbers for options", three(question="Q{n}", choices=["0", "4", "2", "6"], answer=1), "B. 4", "B", "choice"),
    Shape("MMLU (csv)", three(Question="Q{n}", A="one", B="two", C="three", D="four", Answer="D"), "D. four", "D", "choice", suffix=".csv"),
    Shape("MMLU-Pro", three(question_id=lambda n: n, question="Q{n}", options=FOUR, answer="B", answer_index=1, cot_content="…"),
          "B. two", "B", "choice", suffix=".parquet"),
    Shape("ARC", three(id="Mercury_{n}", question="Q{n}", choices={"text": FOUR, "label": ["A", "B", "C", "D"]}, answerKey="B"),
          "B. two", "B", "choice", suffix=".parquet"),
    Shape("ARC with numbers", three(question="Q{n}", choices={"text": FOUR, "label": ["1", "2", "3", "4"]}, answerKey="3"),
          "C. three", "C", "choice"),
    Shape("OpenBookQA", three(question_stem="Q{n}", choices={"text": FOUR, "label": ["A", "B", "C", "D"]}, answerKey="A", fact1="f"),
          "A. one", "A", "choice"),
    Shape("CommonsenseQA", three(id="c{n}", question="Q{n}", question_concept="x",
          choices={"label": ["A", "B", "C", "D", "E"], "text": [*FOUR, "five"]}, answerKey="E"), "E. five", "E", "choice"),
    Shape("GPQA", three(**{"Record ID": "r{n}", "Question": "Q{n}", "Correct Answer": "right", "Incorrect Answer 1": "w1",
          "Incorrect Answer 2": "w2", "Incorrect Answer 3": "w3", "Pre-Revision Question": "old", "Explanation": "e"}),
          "right", None, "choice", suffix=".csv"),
    Shape("SciQ", three(question="Q{n}", distractor1="w1", distractor2="w2", distractor3="w3", correct_answer="right", support="s"),
          "right", None, "choice"),
    Shape("MedMCQA", three(id="m{n}", question="Q{n}", opa="one", opb="two", opc="three", opd="four", cop=3, choice_type="single"),
          "D. four", "D", "choice"),
    Shape("MedQA", three(question="Q{n}", answer="two", options={"A": "one", "B": "two", "C": "three", "D": "four"},
          meta_info="step1", answer_idx="B"), "B. two", "B", "choice"),
    Shape("AQuA-RAT", three(question="Q{n}", options=["A)21", "B)21.5", "C)22", "D)22.5", "E)23"], rationale="r", correct="E"),
          "E. 23", "E", "choice"),
    Shape("MathQA", three(Problem="Q{n}", Rationale="r", options="a ) 38 , b ) 27.675 , c ) 30 , d ) 4", correct="a"),
          "A. 38", "A", "choice"),
    Shape("HellaSwag", three(ind=lambda n: n, ctx="He opens it and {n}", endings=FOUR, label="3", split="val"), "D. four", "D", "choice"),
    Shape("PIQA", three(goal="Q{n}", sol1="one", sol2="two", label=1), "B. two", "B", "choice"),
    Shape("WinoGrande", three(sentence="The _ is {n}.", option1="one", option2="two", answer="2"), "B. two", "B", "choice"),
    Shape("Social IQa", three(context="Tom left {n}.", question="Why?", answerA="one", answerB="two", answerC="three", label="3"),
          "Tom left 1.\n\nWhy?", "C", "choice"),
    Shape("RACE", three(example_id="h{n}", article="A text {n}.", question="Why?", options=FOUR, answer="C"),
          "A text 1.\n\nWhy?", "C", "choice"),
    Shape("TruthfulQA (mc1)", three(question="Q{n}", mc1_targets={"choices": ["right", "w1", "w2"], "labels": [1, 0, 0]}),
          "right", None, "choice"),
    Shape("C-Eval", three(id=lambda n: n, question="问题{n}", A="一", B="二", C="三", D="四", answer="B", explanation=""),
          "B. 二", "B", "choice", suffix=".csv"),
    # -- questions with several golds --------------------------------------------------------------------------------
    Shape("TriviaQA", three(question="Q{n}", question_id="t{n}", answer={"value": "Sinclair", "aliases": ["Red", "Harry"],
          "normalized_value": "sinclair", "type": "WikipediaEntity"}), "Q1", "Sinclair",
          check={"answers": {"any": ["Sinclair", "Red", "Harry"]}}),
    Shape("NQ-open", three(question="q{n}", answer=["one", "1"]), "q1", "one", check={"answers": {"any": ["one", "1"]}}, suffix=".parquet"),
    Shape("WebQuestions", three(url="u", question="q{n}", answers=["a", "b"]), "q1", "a", check={"answers": {"any": ["a", "b"]}}),
    Shape("SQuAD", three(id="s{n}", title="t", context="A text {n}.", question="Why?", answers={"text": ["so", "so it is"],
          "answer_start": [3, 3]}), "A text 1.\n\nWhy?", "so", check={"answers": {"any": ["so", "so it is"]}}, suffix=".parquet"),
    Shape("DROP", three(passage="A text {n}.", question="How many?", answers_spans={"spans": ["4", "4"], "types": ["number", "number"]}),
          "A text 1.\n\nHow many?", "4"),
    Shape("SimpleQA", three(metadata="{'topic': 'Science', 'answer_type': 'Person'}", problem="Who {n}?", answer="Someone {n}"),
          "Who 1?", "Someone 1", suffix=".csv"),
    Shape("HLE", three(id="h{n}", question="Q{n}", image="", answer="B", answer_type="multipleChoice", rationale="r"), "Q1", "B"),
    Shape("BBH", three(input="not ( True ) is {n}", target="False"), "not ( True ) is 1", "False"),
    Shape("BoolQ", three(question="is it {n}", passage="p", answer=lambda n: n == 1), "is it 1", "true"),
    # -- programs ----------------------------------------------------------------------------------------------------
    Shape("HumanEval", three(task_id="HumanEval/{n}", prompt="def add{n}(a, b):\n", canonical_solution="    return a + b\n",
          test="def check(candidate):\n    assert candidate(1, 2) == 3\n", entry_point="add{n}"), "def add1", None, "code"),
    Shape("HumanEval+", three(task_id="HumanEval/{n}", prompt="def add{n}(a, b):\n", entry_point="add{n}", base_input=[[1, 2]],
          plus_input=[[3, 4]], contract="", canonical_solution="    return a + b\n", atol=0,
          test="def check(candidate):\n    assert candidate(1, 2) == 3\n"), "def add1", None, "code"),
    Shape("MBPP", three(task_id=lambda n: n, text="Write add{n}.", code=ADD, test_list=["assert add(1, 2) == 3"], test_setup_code="",
          challenge_test_list=[]), "Write add1.", None, "code", {"code": {"tests": "assert add(1, 2) == 3"}}),
    Shape("MBPP sanitised", three(source_file="x", task_id=lambda n: n, prompt="Write add{n}.", code=ADD, test_imports=[],
          test_list=["assert add(1, 2) == 3"]), "Write add1.", None, "code"),
    Shape("APPS", three(problem_id=lambda n: n, question="Add {n}.", solutions="[]", starter_code="",
          input_output=json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]})), "Add 1.", None, "code"),
    Shape("TACO, calls", three(question="Add {n}.", starter_code="def add(a, b):\n    ",
          input_output=json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]})), "def add(a, b):", None, "code"),
    Shape("CodeContests", three(name="c{n}", description="Add {n}.", public_tests={"input": ["1 2\n"], "output": ["3\n"]},
          private_tests={"input": [], "output": []}, generated_tests={"input": [], "output": []}, difficulty=7),
          "Add 1.", None, "code", suffix=".parquet"),
    Shape("LiveCodeBench, stdin", three(question_title="t", question_content="Add {n}.", platform="codeforces", question_id="q{n}",
          starter_code="", public_test_cases=json.dumps(CASES), private_test_cases=packed(CASES), metadata="{}"), "Add 1.", None, "code"),
    Shape("LiveCodeBench, calls", three(question_content="Add {n}.", question_id="q{n}", metadata=json.dumps({"func_name": "add"}),
          starter_code="class Solution:\n    def add(self, a, b):\n        ", public_test_cases=json.dumps(CALLS),
          private_test_cases=packed(CALLS)), "class Solution:", None, "code"),
    Shape("BigCodeBench", three(task_id="BigCodeBench/{n}", complete_prompt=ADD, instruct_prompt="Write add{n}.", code_prompt="def task_func():\n",
          canonical_solution="…", test="import unittest\nclass TestCases(unittest.TestCase):\n    def test_a(self):\n        pass\n",
          entry_point="task_func", libs="[]"), "Write add1.", None, "code"),
    Shape("PRIME, Eurus-2 (code)", three(data_source="apps", prompt=user, ability="code",
          reward_model=lambda n: {"ground_truth": json.dumps({"inputs": ["1 2\n"], "outputs": ["3\n"]}), "style": "rule"}),
          "What is 1 + 3?", None, "code"),
    Shape("DeepCoder", three(problem="Add {n}.", starter_code="", solutions=["x"], tests=json.dumps(CASES), metadata={}), "Add 1.", None, "code"),
    # -- conversations and instructions ------------------------------------------------------------------------------
    Shape("ShareGPT", three(id="s{n}", conversations=lambda n: [{"from": "human", "value": f"Q{n}"}, {"from": "gpt", "value": "A"}]), "Q1",
          suffix=".json"),
    Shape("OpenAI's fine-tuning files", three(messages=lambda n: [{"role": "system", "content": "S"}, *solved(n)]), "What is 1 + 3?"),
    Shape("UltraChat", three(prompt="Q{n}", prompt_id="p{n}", messages=lambda n: [
          {"role": "user", "content": f"Q{n}"}, {"role": "assistant", "content": "A"}, {"role": "user", "content": "More"},
          {"role": "assistant", "content": "B"}]), "Q1"),
    Shape("Alpaca", three(instruction="Add these.", input="{n} and 3", output="Four."), "Add these.\n\n1 and 3", suffix=".json"),
    Shape("Dolly", three(instruction="Q{n}", context="C", response="R", category="x"), "Q1"),
    Shape("FineWeb", three(text="A page {n}.", url="u"), refused=("has no prompt", "load.prompt_column")),
    Shape("Alpaca with a system turn and a history", three(instruction="Q{n}", input="", output="A", system="S", history=[["q", "a"]]), "Q1"),
    Shape("OpenOrca", three(id="flan.{n}", system_prompt="S", question="Q{n}", response="A"), "Q1", suffix=".parquet"),
    Shape("OpenThoughts", three(system="S", conversations=lambda n: [{"from": "user", "value": f"Q{n}"}, {"from": "assistant", "value": "A"}]),
          "Q1", suffix=".parquet"),
    Shape("WildChat", three(conversation_hash="h{n}", conversation=lambda n: [{"role": "user", "content": f"Q{n}", "turn_identifier": n},
          {"role": "assistant", "content": "A", "turn_identifier": n}], turn=1), "Q1", suffix=".parquet"),
    Shape("MT-Bench", three(question_id=lambda n: n, category="writing", turns=["Write.", "Now shorter."]), refused=("row 1", "'turns' holds 2 questions")),
    Shape("LiveBench", three(question_id="q{n}", category="math", turns=lambda n: [f"Q{n}"], ground_truth="3"), "Q1", "3", suffix=".parquet"),
    # -- tools -------------------------------------------------------------------------------------------------------
    Shape("OpenAI's fine-tuning files with functions", three(messages=lambda n: [{"role": "user", "content": f"Q{n}"}, {"role": "assistant",
          "content": None, "function_call": {"name": "f", "arguments": "{}"}}], functions=[{"name": "f", "parameters": {}}]), "Q1"),
    Shape("xLAM", three(id=lambda n: n, query="Q{n}", answers='[{"name": "f", "arguments": {}}]', tools='[{"name": "f", "description": "d"}]'),
          "Q1", '[{"name": "f", "arguments": {}}]', suffix=".parquet"),
    Shape("BFCL", three(id="simple_{n}", question=lambda n: [[{"role": "user", "content": f"Q{n}"}]], function=[{"name": "f", "parameters": {}}]), "Q1"),
    Shape("Anthropic's messages", three(system="S", messages=lambda n: [{"role": "user", "content": [{"type": "text", "text": f"Q{n}"}]}, {"role":
          "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}, {"role": "user", "content": [{"type": "tool_result",
          "tool_use_id": "t", "content": "12"}]}], tools=[{"name": "f", "input_schema": {}}]), "Q1"),
    # -- more questions ----------------------------------------------------------------------------------------------
    Shape("LIMO", three(question="Q{n}", solution="long", answer="{n}"), "Q1", "1", suffix=".parquet"),
    Shape("s1K", three(solution="{n}", question="Q{n}", cot_type="math", source_type="s", metadata="{'a': 1}", thinking_trajectories=["x"]), "Q1", "1"),
    Shape("GSM-Symbolic", three(id=lambda n: n, question="Q{n}", answer="Work\n#### {n}", original_question="o", original_answer="#### 9"), "Q1", "1"),
    Shape("OpenMathReasoning", three(expected_answer="{n}", problem_type="has_answer_extracted", problem="Q{n}", generated_solution="<think>",
          pass_rate_72b_tir="0.5"), "Q1", "1", suffix=".parquet"),
    Shape("AGIEval", three(passage=None, question="Q{n}", options=["(A)one", "(B)two"], label="B", answer=None), "B. two", "B", "choice"),
    Shape("AGIEval with several right ones", three(passage=None, question="Q{n}", options=["(A)one", "(B)two", "(C)three"], label="AC", answer=None),
          "C. three", "A, C", "choice", check={"answers": {"all": ["A", "C"]}}),
    Shape("LogiQA", three(context="Facts.", query="Q{n}", options=FOUR, correct_option=2), "Facts.\n\nQ1", "C", "choice", suffix=".parquet"),
    Shape("SuperGPQA", three(uuid="u{n}", question="Q{n}", options=FOUR, answer="two", answer_letter="B"), "B. two", "B", "choice", suffix=".parquet"),
    Shape("MMMU", three(id="v{n}", question="<image 1> Q{n}", options="['one', 'two']", image_1=lambda n: {"bytes": b"x", "path": None}, answer="B"),
          "B. two", "B", "choice", suffix=".parquet"),
    Shape("PubMedQA", three(pubid=lambda n: n, question="Q{n}", context={"contexts": ["c"]}, long_answer="l", final_decision="yes"), "Q1", "yes"),
    Shape("StrategyQA", three(qid="q{n}", question="Q{n}", answer=True, facts=["f"]), "Q1", "true", suffix=".json"),
    Shape("FRAMES", three(Prompt="Q{n}", Answer="a", wiki_links="['u']"), "Q1", "a", suffix=".csv"),
    Shape("PRM800K", three(question={"problem": "Q", "ground_truth_answer": "5"}, label={"steps": []}), refused=("row 1", "'question' must be a text")),
    # -- more programs -----------------------------------------------------------------------------------------------
    Shape("KodCode", three(question_id="k{n}", question="Q{n}", solution=ADD, test="from solution import add\n\ndef test_a():\n    assert add(1, 2) == 3"),
          "Q1", ADD, "code", {"code": {"tests": "def test_a():\n    assert add(1, 2) == 3"}}, suffix=".parquet"),
    Shape("AceCode", three(id="a{n}", question="Q{n}", test_cases=["assert add(1, 2) == 3"], inferences=[{"model_name": "m"}]), "Q1", None, "code",
          {"code": {"tests": "assert add(1, 2) == 3"}}, suffix=".parquet"),
]  # fmt: skip
