"""Grade open answers with an LLM judge, behind an OpenAI-compatible endpoint.

Following Q-Bench-Video's protocol, each answer is graded five times with 0, 1 or 2, and the mean is halved.
The wording of the instruction is this project's, not Q-Bench-Video's.

The `openai` client is not used: it limits neither the size of a reply nor its total time, requires a key, and
sends the environment variables OPENAI_ORG_ID and OPENAI_PROJECT_ID as headers to every endpoint.
"""

import asyncio
import http.client
import json
import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from runtime.calls import DeadlineError, together, within
from runtime.errors import CommandFailed, ConfigError

ROUNDS = 5
HIGHEST_GRADE = 2
INSTRUCTION = """You grade answers to questions about the visual quality of videos.
Compare the answer with the reference for completeness, accuracy and relevance.
2: it agrees with the reference, completely or almost
1: it agrees in part
0: it does not agree, or is no answer
Reply with the digit alone."""

_MAX_REPLY_BYTES = 1_000_000
_GRADE = re.compile(r"\D*([012])\D*")


class JudgeError(CommandFailed):
    """The LLM judge gave no grade. The message gives the cause, without the key or text from the server."""


@dataclass(frozen=True, slots=True)
class Judge:
    """The endpoint and the model of an LLM judge.

    `url` is the base address (https://host/v1). `key` is sent as the bearer token, unless it is empty; it
    appears in no message. `timeout_s` is the deadline of one request. `retries` is the number of retries;
    the first follows after `pause_s`, and the wait doubles for each further retry.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = 60.0
    retries: int = 3
    pause_s: float = 1.0

    async def grades(self, question: str, reference: str, answer: str) -> list[int]:
        """Return ROUNDS grades from 0 to HIGHEST_GRADE. Raises JudgeError."""
        return await together(self._grade(question, reference, answer) for _ in range(ROUNDS))

    async def _grade(self, question: str, reference: str, answer: str) -> int:
        asked = f"Question: {question}\nReference: {reference}\nAnswer: {answer}"
        body = {
            "model": self.model,
            "messages": [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": asked}],
        }
        reason = ""
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(self.pause_s * 2 ** (attempt - 1))
            try:
                call = asyncio.to_thread(self._post, body)
                said = await within(call, self.timeout_s, f"the judge at {self.url}")
            except (DeadlineError, _TryAgain) as error:
                reason = str(error)
                continue
            if grade := _GRADE.fullmatch(said):
                return int(grade[1])
            reason = f"it replied with {len(said)} characters that are not one of 0, 1, 2"
        raise JudgeError(f"the judge at {self.url} gave no grade in {self.retries + 1} attempts: {reason}")

    def _post(self, body: dict[str, Any]) -> str:
        """Return the judge's reply. Raises _TryAgain for transient errors, JudgeError for permanent ones."""
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers
        )
        try:
            with _OPENER.open(request, timeout=self.timeout_s) as response:
                reply = json.loads(response.read(_MAX_REPLY_BYTES))
            return str(reply["choices"][0]["message"]["content"])
        except urllib.error.HTTPError as error:
            problem = f"HTTP {error.code}"
            if error.code == 429 or error.code >= 500:
                raise _TryAgain(problem) from None
            raise JudgeError(
                f"the judge at {self.url} refuses: {problem}; check address, model and key"
            ) from None
        except (OSError, http.client.HTTPException) as error:
            raise _TryAgain(f"{type(error).__name__}: {getattr(error, 'reason', error)}") from None
        except (ValueError, LookupError, TypeError):
            raise _TryAgain("its reply is not a chat completion") from None


def judge_from(url: str | None, model: str, key_variable: str | None) -> Judge | None:
    """Build the judge from a command's options; None if `url` is None.

    The key is read from the environment variable `key_variable`. Raises ConfigError for an invalid address or
    an empty variable.
    """
    if url is None:
        return None
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"--judge-url {url}: give an http:// or https:// address")
    if key_variable is None:
        return Judge(url, model)
    if not os.environ.get(key_variable):
        raise ConfigError(f"--judge-key-env {key_variable}: this environment variable is unset or empty")
    return Judge(url, model, os.environ[key_variable])


class _TryAgain(Exception):
    """A request that failed and can be retried."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, which would send the key to another host."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirects)
