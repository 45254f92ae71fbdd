"""The judge of open answers, against a real server on loopback."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from evaluation.quiz.llm_judge import Judge, JudgeError, judge_from
from runtime.errors import ConfigError


class FakeEndpoint(BaseHTTPRequestHandler):
    """Replies with each of `replies` in turn, from then on with the last: a status, or a judge's words."""

    replies: list[int | str]
    seen: list[tuple[str | None, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers["Authorization"], body))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        self.send_response(reply if isinstance(reply, int) else 200)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()
        if isinstance(reply, str):
            self.wfile.write(json.dumps({"choices": [{"message": {"content": reply}}]}).encode())

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


Endpoint = tuple[str, type[FakeEndpoint]]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    handler = type("Handler", (FakeEndpoint,), {"replies": ["2"], "seen": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield f"http://127.0.0.1:{server.server_port}/v1", handler
    server.shutdown()
    server.server_close()


def grades(judge: Judge) -> list[int]:
    return asyncio.run(judge.grades("Why?", "Fog.", "It is foggy."))


def test_the_judge_is_asked_five_times_and_again_where_it_fails(endpoint: Endpoint) -> None:
    url, handler = endpoint
    handler.replies = [503, "I would say", "1 or 2", 429, "Score: 1", "2"]
    assert sorted(grades(Judge(url, "m", "secret", pause_s=0.01))) == [1, 2, 2, 2, 2]
    assert len(handler.seen) == 9
    key, body = handler.seen[0]
    assert key == "Bearer secret"
    assert body["model"] == "m"
    assert "Reference: Fog.\nAnswer: It is foggy." in body["messages"][1]["content"]


@pytest.mark.parametrize(
    ("reply", "reason", "attempts"),
    [(401, "refuses: HTTP 401", 1), (302, "refuses: HTTP 302", 1), (500, "HTTP 500", 2),
     ("three", "5 characters", 2)],
)  # fmt: skip
def test_a_judge_that_gives_no_grade_ends_it_without_a_word_of_the_key(
    endpoint: Endpoint, reply: int | str, reason: str, attempts: int
) -> None:
    url, handler = endpoint
    handler.replies = [reply]
    judge = Judge(url, "m", "secret", retries=1, pause_s=0.01)
    with pytest.raises(JudgeError, match=reason) as error:
        grades(judge)
    assert "secret" not in f"{error.value}{judge}"
    assert len(handler.seen) <= 5 * attempts


def test_an_endpoint_that_is_silent_costs_no_more_than_its_deadlines(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = endpoint
    released = threading.Event()
    monkeypatch.setattr(handler, "do_POST", lambda self: released.wait(30))
    try:
        with pytest.raises(JudgeError, match="no grade in 2 attempts"):
            grades(Judge(url, "m", retries=1, pause_s=0.01, timeout_s=0.3))
    finally:
        released.set()


def test_the_judges_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert judge_from(None, "m", None) is None
    with pytest.raises(ConfigError, match="--judge-key-env JUDGE_KEY: .* is unset or empty"):
        judge_from("https://host/v1", "m", "JUDGE_KEY")
    with pytest.raises(ConfigError, match="http:// or https://"):
        judge_from("file:///etc/passwd", "m", None)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    judge = judge_from("https://host/v1", "m", "JUDGE_KEY")
    assert judge is not None
    assert judge.key == "secret"
