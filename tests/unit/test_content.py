"""What engines can show of a conversation; files of turns from before these could have more."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.engines.content import TEXT, Takes, folder_template, gguf_template, shown, untaken
from cluster.storage.arrow import arrow_schema
from cluster.storage.numbering import Numbering
from cluster.storage.root import Root
from cluster.storage.slices import scan_files
from cluster.upkeep.verify_file import Expected, check_file
from schemas.contract import polars_schema
from schemas.conversation import spoken
from schemas.datasets import Sft
from schemas.errors import BadInput

CHATML = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>{% endfor %}"
WITH_TOOLS = "{% if tools %}{{ tools }}{% endif %}{% for m in messages %}{{ m.tool_calls }}{{ m.content }}{% endfor %}"
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}


@pytest.mark.parametrize(
    ("turn", "tools", "template", "lost"),
    [
        ({}, [], CHATML, ""),
        ({}, [CALL], CHATML, "tools"),
        ({"tool_calls": [CALL]}, [], CHATML, "tool calls"),
        ({"name": "ann"}, [], CHATML, "names of speakers"),
        ({"name": "ann"}, [], "{{ message['name'] }}", ""),
        ({"name": "f", "role": "tool", "tool_call_id": "c"}, [], CHATML, ""),
        ({"tool_calls": [CALL]}, [CALL], WITH_TOOLS, ""),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, [], CHATML, ""),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}]}, [], WITH_TOOLS, "parts of type 'image_url'"),
        ({"tool_calls": [CALL]}, [CALL], "", "tools: turns are joined as plain text"),
        ({"tool_calls": [CALL]}, [CALL], None, ""),
    ],
)
def test_a_chat_template_shows_what_it_has_a_place_for(
    turn: dict[str, Any], tools: list[Any], template: str | None, lost: str
) -> None:
    message = {"role": "user", "content": "hi", **turn}
    assert untaken([message], tools, Takes(parts=False, template=template)).startswith(lost)
    assert bool(untaken([message], tools, Takes(parts=False, template=template))) == bool(lost)


def test_texts_are_joined_by_lines_and_what_is_lost_is_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert shown([{"role": "user", "content": parts}], (), TEXT) == [{"role": "user", "content": "a\nb"}]
    with pytest.raises(BadInput, match="can't take tool calls"):
        shown([{"role": "assistant", "content": "", "tool_calls": [CALL]}], (), TEXT)


def test_templates_are_found_without_loading_a_model(tmp_path: Path) -> None:
    key, text = b"tokenizer.chat_template", CHATML.encode()
    (tmp_path / "m.gguf").write_bytes(b"GGUF...." + key + struct.pack("<IQ", 8, len(text)) + text + b"rest")
    assert gguf_template(tmp_path / "m.gguf") == CHATML
    (tmp_path / "n.gguf").write_bytes(b"GGUF and nothing else")
    assert gguf_template(tmp_path / "n.gguf") is None
    assert folder_template(tmp_path) is None
    named = [{"name": "default", "template": "A"}, {"name": "tool_use", "template": WITH_TOOLS}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert WITH_TOOLS in str(folder_template(tmp_path))
    (tmp_path / "chat_template.jinja").write_text(CHATML)
    assert folder_template(tmp_path) == CHATML


def test_files_of_plain_turns_are_read_and_are_not_damaged(tmp_path: Path) -> None:
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {"messages": pa.list_(pa.field("element", turn))}
    fields = [
        field.with_type(types.get(field.name, field.type)) for field in arrow_schema(Sft) if field.name != "tools"
    ]
    plain = {"role": "user", "content": "Q?"}
    row = ["k", 0, "p", [plain], 1, 1.0, "{}"]
    (tmp_path / "snapshots").mkdir()
    pq.write_table(pa.table([[value] for value in row], schema=pa.schema(fields)), tmp_path / "snapshots/part.parquet")
    root = Root(str(tmp_path))
    table = scan_files(root, [root.uri("snapshots", "part.parquet")], Sft).collect()
    assert table.schema == polars_schema(Sft)
    assert spoken(table["messages"][0].to_list()) == [plain] and table["tools"].to_list() == [None]
    expected = Expected("sft", "snapshots", "part.parquet", Sft, 1, None, False)
    assert not check_file(root, expected, Numbering()).findings
