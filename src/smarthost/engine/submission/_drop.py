"""Takes in what `sendmail` left in the drop folder while the engine was down.

One file after another: read, completed, admitted, committed, and only then unlinked. The file's name is its
idempotency key, so a crash before the unlink makes no second message. What fails for now (store full, nobody
home) stays where it is; what can never be accepted is set aside in `drop-refused` and said so, because
nobody is there any more to hear a refusal.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from smarthost.engine.directory import LOCAL, DirectoryCache
from smarthost.engine.log import Log
from smarthost.engine.submission._envelope import reader
from smarthost.engine.submission._upload import store_large
from smarthost.errors import ConfigError, SmarthostError
from smarthost.mail import complete, received
from smarthost.routing import Mode, Principal, Submission, admit
from smarthost.spool import CHUNK, Acceptance, AsyncSpool, Door, Event, drop, new_id, now_us
from smarthost.spool.intake import examine, fingerprint, prepare


class DropFolder:
    """`scan` takes in all that waits; scans do not overlap."""

    def __init__(self, data: Path, spool: AsyncSpool, directory: DirectoryCache, log: Log) -> None:
        self._data = data
        self._spool = spool
        self._directory = directory
        self._log = log
        self._busy = asyncio.Lock()
        self._stopping = False

    def make(self) -> None:
        """Make the folder. Raises ConfigError."""
        try:
            drop.make(self._data)
        except OSError as error:
            raise ConfigError(f"The drop folder cannot be made: {error}", origin="SMARTHOST_DATA") from error

    async def stop(self) -> None:
        """Wait for the file under way."""
        self._stopping = True
        async with self._busy:
            return

    async def scan(self) -> None:
        """Take in every file that waits."""
        if self._busy.locked():
            return
        async with self._busy:
            for name in await asyncio.to_thread(drop.waiting, self._data):
                if self._stopping:
                    return
                try:
                    await self._take(name)
                except SmarthostError as error:
                    self._log.warning("drop-refused", file=name, code=error.code, text=error.public)
                    if not error.temporary:
                        await self._set_aside(name, error)
                    elif error.slug.startswith("store"):
                        return
                except FileNotFoundError:
                    continue
                except OSError as error:
                    self._log.error("drop-unreadable", file=name, error=error)

    async def _take(self, name: str) -> None:
        directory = self._directory.current
        limits = directory.limits
        left = await asyncio.to_thread(drop.read, self._data, name, limits.max_size)
        principal = await self._principal(left.uid)
        content, facts = examine(left.content, limits, reader(directory))
        submission = Submission(
            principal=principal,
            door=Door.SENDMAIL.value,
            sender=complete(left.sender, directory.domain, {}) if left.sender else None,
            recipients=tuple(complete(one, directory.domain, directory.aliases) for one in left.recipients),
            header_from=facts.header_from,
            size=len(content),
        )
        now, id = now_us(), new_id()
        sender = str(submission.sender or "")
        message = prepare(
            admit(directory, {}, now, submission),
            submission,
            facts,
            id=id,
            now=now,
            door=Door.SENDMAIL,
            trace=received(
                hostname=directory.hostname, protocol="local", id=id, at_us=now, by_login=principal.name
            ),
            content=content,
            key=facts.idempotency_key or left.key,
            fingerprint=fingerprint(sender, [str(one) for one in submission.recipients], content),
        )
        if len(content) > CHUNK:
            message = await store_large(self._spool, message)
        accepted = await self._spool.accept(message)
        await asyncio.to_thread(drop.remove, self._data, name)
        if accepted.how is Acceptance.REPEATED and message.content is None and accepted.id != id:
            await self._spool.discard(id)
        self._log.info(
            "accepted",
            id=accepted.id,
            repeated=1 if accepted.how is Acceptance.REPEATED else None,
            door="drop",
            principal=principal.id,
            size=message.size,
            recipients=len(message.deliveries),
            sender=sender or "<>",
        )

    async def _principal(self, uid: int) -> Principal:
        directory = self._directory.current
        known = directory.uids.get(uid)
        found = await self._directory.principal(known) if known else None
        if found is None and directory.mode is Mode.CAPTURE:
            return LOCAL
        if found is None:
            raise SmarthostError(f"No application is set for uid {uid}.", code=550, enhanced="5.7.1")
        return found

    async def _set_aside(self, name: str, error: SmarthostError) -> None:
        path = await asyncio.to_thread(drop.set_aside, self._data, name)
        text = f"Mail left by sendmail was refused and is kept in {path}: {error.public}"
        await self._spool.record([Event(now_us(), "drop.refused", f"drop:{name}", text, severity="error")])
