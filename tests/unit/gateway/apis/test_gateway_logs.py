"""Lines on stderr: JSON, without secrets, and never in anybody's way."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from paddock_gateway import logs
from tests.unit.gateway.apis.test_gateway_metrics import row


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_an_answer_is_one_line_without_its_query() -> None:
    to = io.StringIO()
    with logs.written(requests=True, to=to):
        logs.AccessLog().answered(row(path="/key/info?key=sk-secret-secret", request_id="r-1"))
    (line,) = lines(to.getvalue())
    assert (line["level"], line["message"], line["request_id"], line["user"], line["path"]) == (
        "info",
        "answered",
        "r-1",
        "ann",
        "/key/info",
    )
    assert (line["status"], line["duration_ms"], line["first_token_ms"], line["queued_ms"]) == (200, 1500.0, 200.0, 30.0)
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (100, 80, 20)
    assert "secret" not in to.getvalue()


def test_answers_are_not_told_where_the_settings_say_so_but_messages_are() -> None:
    to = io.StringIO()
    with logs.written(requests=False, to=to):
        logs.AccessLog().answered(row())
        logging.getLogger("aiohttp.access").info("GET /key/info?key=sk-ann")
        logging.getLogger("aiohttp.server").error("Something is wrong: %s", "really")
    assert [line["message"] for line in lines(to.getvalue())] == ["Something is wrong: really"]


@pytest.mark.parametrize(
    "said",
    [
        "GET /key/info?key=sk-abcdefgh HTTP/1.1",
        "Authorization: Bearer abcdefgh",
        "'X': sk-abcdefgh\"",
        "?api_key=abcdefgh&x=1",
        "API-KEY=abcdefgh",
    ],
)
def test_what_looks_like_a_key_is_struck_out(said: str) -> None:
    to = io.StringIO()
    with logs.written(requests=True, to=to):
        try:
            raise ValueError(said)
        except ValueError:
            logging.getLogger("somebody").exception(said)
    (line,) = lines(to.getvalue())
    assert "abcdefgh" not in to.getvalue()
    assert "ValueError" in line["exception"]


def test_text_that_json_cannot_have_and_long_text_are_still_one_line() -> None:
    to = io.StringIO()
    with logs.written(requests=True, to=to):
        logging.getLogger("somebody").warning("\udcff\n" + "a" * 100_000)
    assert len(lines(to.getvalue())) == 1
    assert len(to.getvalue()) < 20_000


def test_a_journal_that_stands_still_makes_nobody_wait_and_what_was_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "ROOM", 10)
    go_on = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            go_on.wait(10)
            return super().write(text)

    to = Slow()
    with logs.written(requests=True, to=to):
        for _ in range(100):
            logs.AccessLog().answered(row())
        go_on.set()
        for _ in range(5000):
            if len(to.getvalue().splitlines()) >= 10:
                break
            time.sleep(0.001)
        logging.getLogger("somebody").warning("after it")
    said = [line["message"] for line in lines(to.getvalue())]
    lost = 100 - said.count("answered")
    assert lost > 0
    assert f"{lost} lines were lost" in said


def test_lines_of_a_journal_have_their_priority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as to:
        found = os.fstat(to.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        with logs.written(requests=True, to=to):
            logging.getLogger("somebody").error("It broke")
        to.seek(0)
        text = to.read()
    assert text.startswith("<3>{")
    assert json.loads(text[3:])["message"] == "It broke"


def test_logging_is_as_it_was_afterwards() -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger().level)
    with logs.written(requests=True, to=io.StringIO()):
        assert logging.getLogger().handlers != before[0]
    assert (logging.getLogger().handlers, logging.getLogger().level) == before
