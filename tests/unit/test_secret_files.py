"""A secret may stand in a file, so that it shows in no process list and no environment dump."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import Misconfigured
from core.settings import Settings

SECRET = "a-secret-of-at-least-thirty-two-bytes"


def test_a_file_gives_a_secret_without_its_last_line_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    monkeypatch.setenv("QORGAN_TOKEN_KEY_FILE", str(tmp_path / "key"))
    key = Settings().token_key
    assert key is not None
    assert key.get_secret_value() == SECRET
    assert SECRET not in repr(Settings())


def test_the_variable_itself_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("from the file")
    monkeypatch.setenv("QORGAN_TOKEN_KEY_FILE", str(tmp_path / "key"))
    monkeypatch.setenv("QORGAN_TOKEN_KEY", SECRET)
    key = Settings().token_key
    assert key is not None
    assert key.get_secret_value() == SECRET


def test_a_file_that_is_not_there_is_told_by_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QORGAN_SMTP_PASSWORD_FILE", str(tmp_path / "nothing"))
    with pytest.raises(Misconfigured, match="QORGAN_SMTP_PASSWORD_FILE names a file that cannot be read"):
        Settings()


def test_only_secrets_are_read_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "host").write_text("mail.example")
    monkeypatch.setenv("QORGAN_SMTP_HOST_FILE", str(tmp_path / "host"))
    assert Settings().smtp_host is None
