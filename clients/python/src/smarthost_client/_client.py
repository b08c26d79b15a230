"""The HTTP API as Python calls.

Accepting is the one thing that must neither be lost nor done twice. So every request that sends carries an
idempotency key, made here unless the caller gives one, and whatever leaves the outcome open (a broken
connection, a timeout, a 5xx, a 429) is tried again with the same key and the same bytes.
"""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from smarthost_client._errors import SmarthostError, UnavailableError, from_answer
from smarthost_client._types import Addresses, Attachment, Message, Sent

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 30.0
_RETRIED = frozenset({408, 429, 500, 502, 503, 504})


class Client:
    """One Smarthost. Safe to share between threads; each keeps a connection of its own open.

    url      its public address, such as "https://mail.example.com".
    token    an API token: `smarthost app add NAME --token`, or `smarthost token add`.
    timeout  seconds for each step of a request.
    retries  how often a request is repeated whose outcome is open.
    context  TLS settings (a private certification authority, for example).
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = 30.0,
        retries: int = 4,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not the address of a Smarthost: {url!r}")
        if not token or any(ord(char) < 33 or ord(char) > 126 for char in token):
            raise ValueError("the token is empty or holds a character that no token has")
        self._host = parts.hostname
        self._port = parts.port
        self._path = parts.path.rstrip("/")
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._token = token
        self._timeout = timeout
        self._retries = retries
        self._local = threading.local()

    def send(
        self,
        message: Message | None = None,
        *,
        idempotency_key: str = "",
        to: Addresses = (),
        subject: str = "",
        text: str | None = None,
        html: str | None = None,
        sender: str = "",
        cc: Addresses = (),
        bcc: Addresses = (),
        reply_to: Addresses = (),
        headers: Mapping[str, str] | None = None,
        attachments: Sequence[Attachment] = (),
        priority: str = "",
        send_at: str = "",
    ) -> Sent:
        """Hand over one mail; returns once it is durable.

        Raises RefusedError, UnauthorizedError, ConflictError, UnavailableError.
        """
        mail = message or Message(
            to, subject, text, html, sender, cc, bcc, reply_to, headers or {}, attachments, priority, send_at
        )
        answer = self._request(
            "POST", "/api/v1/messages", mail.payload(), idempotency_key or str(uuid.uuid4())
        )
        return Sent.read(answer)

    def batch(self, messages: Sequence[Message], *, idempotency_key: str = "") -> list[Sent | SmarthostError]:
        """Hand over several mails in one request; one result each, in order: accepted, or why not."""
        key = idempotency_key or str(uuid.uuid4())
        body = [message.payload() for message in messages]
        answer = self._request("POST", "/api/v1/messages/batch", body, key)
        return [
            Sent.read(entry) if entry.get("id") else from_answer(int(entry.get("status") or 422), entry)
            for entry in answer["results"]
        ]

    def get(self, id: str) -> Sent:
        """A message with each recipient's state. Raises NotFoundError and what `send` raises."""
        return Sent.read(self._request("GET", f"/api/v1/messages/{quote(id, safe='')}"))

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _request(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode("utf-8", "strict")
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if key:
            headers["Idempotency-Key"] = key
        failure = UnavailableError("not tried")
        for attempt in range(self._retries + 1):
            wait: float | None = None
            try:
                status, answer, wait = self._once(method, self._path + path, data, headers)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                failure = UnavailableError(
                    f"{self._where()} cannot be reached: {error or type(error).__name__}"
                )
            else:
                if 200 <= status < 300:
                    return answer
                problem = from_answer(status, answer)
                if status not in _RETRIED or not isinstance(problem, UnavailableError):
                    raise problem
                failure = problem
            if attempt < self._retries:
                pause = min(_FIRST_PAUSE * 2**attempt * random.uniform(0.5, 1.5), _LONGEST_PAUSE)  # noqa: S311 - jitter
                if wait is not None and wait > _LONGEST_PAUSE:
                    break  # the server named a time that is too far away to wait for here
                time.sleep(max(pause, wait or 0.0))
        raise failure

    def _once(
        self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, Any, float | None]:
        """One request: status, decoded body, and the seconds that Retry-After asks for."""
        connection = getattr(self._local, "connection", None) or self._connect()
        connection.request(method, path, body=data, headers=dict(headers))
        response = connection.getresponse()
        raw = response.read()
        if response.will_close:
            self.close()
        after = response.headers.get("Retry-After", "")
        try:
            answer = json.loads(raw) if raw else {}
        except ValueError:
            answer = None
        if 300 <= response.status < 400:
            raise SmarthostError(
                f"{self._where()} answers with a redirect: use {response.headers.get('Location')!r}",
                status=response.status,
            )
        if answer is None and response.status < 300:
            raise SmarthostError(
                f"{self._where()} does not answer with JSON: is it a Smarthost?", status=response.status
            )
        return response.status, answer, float(after) if after.isdigit() else None

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._context is not None:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        self._local.connection = connection
        return connection

    def _where(self) -> str:
        return f"Smarthost at {self._host}" + (f":{self._port}" if self._port else "")

    def __repr__(self) -> str:
        return f"Client({self._host!r})"
