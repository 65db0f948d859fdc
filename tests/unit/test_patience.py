"""What is told at once of a storage, and not waited for."""

from __future__ import annotations

import pytest

from cluster.storage.root import Root
from schemas.errors import BadInput


def test_a_bucket_without_credentials_is_told_with_its_remedy(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    nothing = str(tmp_path_factory.mktemp("home") / "nothing")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", nothing)
    monkeypatch.setenv("AWS_CONFIG_FILE", nothing)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", "http://127.0.0.1:9")
    root = Root.at("s3://a-bucket-of-nobody/team")
    with pytest.raises(BadInput, match=r"no credentials for this storage\. Set AWS_ACCESS_KEY_ID"):
        root.patiently(lambda: root.fs.ls("a-bucket-of-nobody", refresh=True), "listing runs")
