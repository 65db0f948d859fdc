"""What is secret is hidden, and nothing else is: documents stay documents, states stay states."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.records.reader import manifests
from cluster.records.recorder import write_manifest
from cluster.storage.root import Root
from schemas import redaction
from schemas.manifest import RunManifest
from schemas.redaction import is_secret_name, protect, protect_settings, redact, redacted, secrets_in

SECRET_NAMES = [
    "DB_PASS",
    "OPENAI_APIKEY",
    "OPENAI_API_KEY",
    "GITHUB_PAT",
    "DATABASE_URL",
    "PGPASSWD",
    "PGPASSWORD",
    "HF_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "SENTRY_DSN",
    "MY_CREDENTIALS",
    "SIGNING_SECRET",
    "SSH_PASSPHRASE",
    "AZURE_STORAGE_CONNECTION_STRING",
    "SLACK_WEBHOOK_URL",
    "npm_config__authToken",
    "OPENAI_API_KEY_2",
    "API_KEY_PROD",
    "LDAP_BIND_PW",
    "POSTGRES_URL",
]
OTHER_NAMES = [
    "COMPASS",
    "MONKEY",
    "MAX_TOKENS",
    "TOKENIZERS_PARALLELISM",
    "PATH",
    "KEYBOARD",
    "HOME",
    "TOKEN_LIMIT",
    "AUTHOR",
]
NO_KEYS = ["true", "done", "scripted", "1234567890123456", "2026-11", "/home/me/.aws/credentials", "~/secrets/key.json"]
KEY = "sk-live-9f8e7d6c5b4a39281706f5e4d3c2b1a0"


@pytest.fixture(autouse=True)
def nothing_declared() -> Iterator[None]:
    """What a test declares is secret in it alone."""
    before = set(redaction._declared)
    redaction._declared.clear()
    yield
    redaction._declared.clear()
    redaction._declared.update(before)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_names_that_only_look_like_it(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize("value", [*NO_KEYS, "https://example.org/keys", "running and waiting", "3.14159265358979"])
def test_undeclared_values_that_are_no_keys_stay(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", value)
    document = {"state": value, "text": f"it says {value}.", "list": [value]}
    assert redacted(document) == document


def test_undeclared_keys_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMEBODYS_API_KEY", KEY)
    assert redact(f"401: invalid key {KEY}!") == "401: invalid key ***!"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("-----BEGIN KEY-----\nMIIEabc123\n-----END KEY-----", "-----BEGIN KEY-----\\nMIIEabc123\\n-----END KEY-----"),
        ("IQoJb3JpZ2luX2VjEJr//abc+de==", "IQoJb3JpZ2luX2VjEJr%2F%2Fabc%2Bde%3D%3D"),
        ('Zx"9"Qw\\81kLm2', 'Zx\\"9\\"Qw\\\\81kLm2'),
    ],
)
def test_undeclared_keys_as_others_write_them(value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING_KEY", value)
    assert redact(f"it was {said}; and {value}") == "it was ***; and ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("X-Api-Key: abcdef1234567890", "X-Api-Key: ***"),
        ('{"api-key": "abcdef1234567890"}', '{"api-key": "***"}'),
        ("Ocp-Apim-Subscription-Key=abcdef1234567890, then", "Ocp-Apim-Subscription-Key=***, then"),
        ("the api-key: not-a-valid-one", "the api-key: not-a-valid-one"),
        ("api-key: 12", "api-key: 12"),
    ],
)
def test_keys_of_headers_are_known_by_their_place(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_every_text_of_a_list_under_a_secret_name_is_hidden() -> None:
    assert redacted({"access_token": ["a", {"b": "c"}, 7]}) == {"access_token": ["***", {"b": "c"}, 7]}


def test_declared_keys_are_hidden_in_parts_and_in_base64() -> None:
    protect(KEY)
    assert redact(f"key {KEY[:14]}... is wrong") == "key ***... is wrong"
    assert redact(f"key {KEY[:6]}... is wrong") == f"key {KEY[:6]}... is wrong"
    for before in (b"", b"a", b"me:", b"user:"):
        encoded = base64.b64encode(before + KEY.encode()).decode()
        shown = redact(f"Basic {encoded}")
        assert "***" in shown
        assert len(shown) <= len("Basic ") + len(before) * 2 + 8  # what is left says nothing of the key


@pytest.mark.parametrize(
    "secret", ["one-abcdefgh\nand-ijklmnop", "a/b+c=d/eFGHIJKLMNOP", 'quo"te\\back-slash', "pä55-wörd-lang"]
)
def test_declared_keys_are_hidden_as_others_write_them(secret: str) -> None:
    protect(secret)
    shown = [secret, json.dumps(secret), json.dumps(secret, ensure_ascii=False), quote(secret, ""), quote_plus(secret)]
    assert [redact(f"<{text.strip(chr(34))}>") for text in shown] == ["<***>"] * 5


def test_a_secret_that_is_a_word_leaves_names_and_paths_alone() -> None:
    protect("sample", KEY)
    document = {"name": "sample", "path": "samples/sample/4711", "error": "sample failed", "job": KEY}
    assert redacted(document) == {**document, "error": "*** failed", "job": "***"}


def test_a_secret_url_is_hidden_as_a_whole_and_others_stay() -> None:
    protect("http://127.0.0.1:4711/hooks/abcdef")
    assert redact("POST http://127.0.0.1:4711/hooks/abcdef") == "POST ***"
    assert redact("http://127.0.0.1:8265") == "http://127.0.0.1:8265"


def test_a_long_secret_is_hidden_as_a_whole() -> None:
    long = "".join(f"{i:02x}" for i in range(200))
    protect(long)
    assert redact(f"<{long}>") == "<***>"


def test_short_declared_secrets_are_hidden_only_as_a_whole() -> None:
    protect("hunter")
    assert redact("password hunter, said the hunters") == "password ***, said the hunters"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa55@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("https://h/v1?api_key=abc&x=1", "https://h/v1?api_key=***&x=1"),
        ("https://h/v1?x=1&access_token=abc#top", "https://h/v1?x=1&access_token=***#top"),
        ("s3://bucket/a?X-Amz-Signature=abc", "s3://bucket/a?X-Amz-Signature=***"),
        ("https://h/v1?model=a&seed=3", "https://h/v1?model=a&seed=3"),
        ("https://h:8080/a@b", "https://h:8080/a@b"),
        ("postgresql://me:p@ss@db/x", "postgresql://me:***@db/x"),
        ("amqp://me:pa/55@h/v", "amqp://me:***@h/v"),
        ("https://me:pa55@h/pkg@1.0", "https://me:***@h/pkg@1.0"),
        ("redis://:pa55@h:6379/0", "redis://:***@h:6379/0"),
        ("https://h/#access_token=abc", "https://h/#access_token=***"),
        ("https://h/?monkey=abc&tokens=5&keyword=x", "https://h/?monkey=abc&tokens=5&keyword=x"),
        ("https://h/?apikey=abc&x-api-key=d", "https://h/?apikey=***&x-api-key=***"),
        (f"git clone https://{KEY}@h/x.git", "git clone https://***@h/x.git"),
        ("ssh://git@h/x and hdfs://some.body@h", "ssh://git@h/x and hdfs://some.body@h"),
        (f"Authorization: Bearer {KEY}, please", "Authorization: Bearer ***, please"),
        ("Bearer authentication is required", "Bearer authentication is required"),
    ],
)
def test_secrets_of_urls_are_known_by_their_place(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_settings_with_keys_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE_IT_IS", "tok-5566778899aabb")
    protect_settings({"extra_body": {"Authorization": "Bearer abcd1234efgh5678"}, "key_env": "WHERE_IT_IS"})
    assert redact("abcd1234efgh5678 tok-5566778899aabb") == "*** ***"
    assert redacted({"extra_body": {"api_key": "x1"}}) == {"extra_body": {"api_key": "***"}}
    assert secrets_in({"a": [{"api_key": "x1", "kind": "scripted"}]}) == ["a.0.api_key"]


def test_states_kinds_keys_and_numbers_are_never_touched() -> None:
    protect("done", "scripted", "12345")
    document = {"state": "done", "kind": "scripted", "done": 12345, "n": 12345, "nested": [{"status": "done"}]}
    assert redacted(document) == document
    assert redacted({"error": "done"}) == {"error": "***"}


def test_a_manifest_stays_one_whatever_is_secret(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "true")
    monkeypatch.setenv("DB_PASSWORD", "running")
    protect("null", "running", "2026", "mine")
    root = Root.at(str(tmp_path))
    manifest = RunManifest(run_id="mine-1", pipeline="mine", state="running", started=datetime.now(UTC), runner="local")
    write_manifest(root, manifest)
    [found] = manifests(root)
    assert (found.state, found.run_id, found.pipeline, found.started) == ("running", "mine-1", "mine", manifest.started)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_a_document_keeps_its_shape(document: object) -> None:
    json.dumps(redacted(document))
    if "://" not in json.dumps(document) and "=" not in json.dumps(document) and not secrets_in(document):
        assert redacted(document) == document
