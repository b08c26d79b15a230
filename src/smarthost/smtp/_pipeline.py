"""Transactions of a client: what is written when, and what a reply means for whom.

At most two transactions are open: the current one, and one ahead of its last reply. What a server offers
decides the shape of a transaction:

    PIPELINING and CHUNKING   MAIL, RCPT…, BDAT n LAST and the content in one write
    PIPELINING                MAIL, RCPT…, DATA in one write; after 354 content, dot, the next MAIL …
    neither                   one command, one reply

Streamed content (`Transaction.content` is None) is asked for only when a recipient was accepted. The next
transaction is launched as soon as the final bytes of the one before are written; where that one may have
been left open at the server (nobody knows yet whether a recipient was accepted, or a chunk may be refused)
RSET goes in front, for otherwise the next message would be added to it (RFC 3030 2).

A recipient has its verdict when its own RCPT, or MAIL, or DATA was refused, else with the reply to the
final bytes. When a session breaks, the rest is decided in `lost` and `closed_by_server`:

    421 in place of a reply   the server answers in order and will not go on: the current transaction is
                              TEMPORARY even if its final bytes are out, one ahead is UNSENT
    silence, or out of step   UNKNOWN for each whose final bytes were given out; else the current one
                              is TEMPORARY and one ahead UNSENT

RFC 5321 3.3, 3.8, 4.1.1; RFC 2920; RFC 3030; RFC 9422.
"""

from __future__ import annotations

from smarthost.smtp._capabilities import Capabilities
from smarthost.smtp._data import Outgoing
from smarthost.smtp._envelope import mail_command, rcpt_command, sort_out
from smarthost.smtp._events import ClientEvent, Done, WantBody
from smarthost.smtp._types import LocalError, Reply, Result, Stage, Transaction, Verdict, Warn
from smarthost.smtp._wire import Expected, OutOfStepError, Wire

_plant_reply_desync = False  # the reliability campaign sets it; see tests/smtp/test_planted.py

_DOT = b".\r\n"


class Open:
    """One transaction under way."""

    __slots__ = (
        "accepted",
        "final",
        "first",
        "launched",
        "next_rcpt",
        "offered",
        "outgoing",
        "results",
        "transaction",
        "waiting",
        "warnings",
    )

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.results: list[Result | None] = [None] * len(transaction.recipients)
        self.offered: list[int] = []  # recipients that RCPT is said for
        self.accepted = 0
        self.next_rcpt = 0  # in lock-step: place in `offered`
        self.waiting = 0  # replies outstanding
        self.launched = False
        self.first = 0  # Wire number of its MAIL
        self.final = 0  # Wire number of its final bytes, 0 while they are not written
        self.outgoing: Outgoing | None = None  # streamed content was asked for and is not complete
        self.warnings: tuple[Warn, ...] = ()

    def settle(self, index: int, verdict: Verdict, reply: Reply, stage: Stage) -> None:
        """Give one recipient its verdict."""
        recipient = self.transaction.recipients[index]
        self.results[index] = Result(recipient, verdict, reply, stage, self.warnings)

    def settle_rest(self, verdict: Verdict, reply: Reply, stage: Stage) -> None:
        """Give every recipient without a verdict this one."""
        for index, result in enumerate(self.results):
            if result is None:
                self.settle(index, verdict, reply, stage)


class Pipeline:
    """Open transactions on one wire."""

    def __init__(self, wire: Wire, capabilities: Capabilities, *, ahead: bool) -> None:
        self._wire = wire
        self._capabilities = capabilities
        self._chunking = capabilities.chunking
        self._pipelining = capabilities.pipelining
        self._most = 2 if ahead and capabilities.pipelining else 1
        self._open: list[Open] = []
        self._left_open = False  # the server may still have a transaction: RSET before the next
        self._count = 0

    @property
    def idle(self) -> bool:
        return not self._open

    @property
    def worn_out(self) -> bool:
        limit = self._capabilities.mail_max
        return 0 < limit <= self._count

    @property
    def room(self) -> int:
        limit = self._capabilities.mail_max
        free = self._most - len(self._open)
        return max(0, min(free, limit - self._count)) if limit else free

    @property
    def wants_body(self) -> bool:
        return any(one.outgoing is not None for one in self._open)

    @property
    def in_doubt(self) -> tuple[Transaction, ...]:
        return tuple(one.transaction for one in self._open if self._wire.given_out(one.final))

    def send(self, transaction: Transaction) -> list[ClientEvent]:
        if self.room < 1:
            raise LocalError("there is no room for a transaction")
        one = Open(transaction)
        sort_out(one, self._capabilities)
        if not one.offered:
            return [_done(one)]
        self._count += 1
        self._open.append(one)
        self._launch_next()
        return []

    def body(self, transaction: Transaction, data: bytes, *, last: bool) -> list[ClientEvent]:
        one = next((one for one in self._open if one.transaction is transaction), None)
        if one is None or one.outgoing is None:
            return []
        data = one.outgoing.feed(data, last=last)
        if self._chunking:
            if last or data:
                word = b" LAST\r\n" if last else b"\r\n"
                stage = Stage.DOT if last else Stage.BODY
                self._say(one, b"BDAT %d%b" % (len(data), word), stage)
                self._wire.content(data)
        else:
            self._wire.content(data)
            if last:
                self._say(one, _DOT, Stage.DOT)
        if last:
            one.outgoing = None
            one.final = self._wire.pushed
            self._launch_next()
        return []

    # --- writing

    def _say(self, one: Open, line: bytes, stage: Stage, index: int = 0) -> None:
        self._wire.say(line, Expected(stage, one, index))
        one.waiting += 1

    def _launch_next(self) -> None:
        """Launch the first transaction that waits, if the one before has written its final bytes."""
        before: Open | None = None
        for one in self._open:
            if not one.launched:
                if before is None or (self._pipelining and before.final):
                    self._launch(one, before)
                return
            before = one

    def _launch(self, one: Open, before: Open | None) -> None:
        uncertain = before is not None and (
            not before.accepted or (self._chunking and before.transaction.content is None)
        )
        one.launched = True
        reset = self._left_open or uncertain
        self._left_open = False
        if not self._pipelining:
            if reset:
                self._say(one, b"RSET\r\n", Stage.RSET)
            else:
                self._say_mail(one)
            return
        transaction, capabilities = one.transaction, self._capabilities
        commands = [b"RSET\r\n"] if reset else []
        expected = [Expected(Stage.RSET, one)] if reset else []
        commands.append(mail_command(transaction, one.offered, capabilities))
        expected.append(Expected(Stage.MAIL, one))
        one.first = self._wire.pushed + len(expected)
        for index in one.offered:
            commands.append(rcpt_command(transaction.recipients[index], capabilities))
            expected.append(Expected(Stage.RCPT, one, index))
        content: bytes | None = None
        if not self._chunking:
            commands.append(b"DATA\r\n")
            expected.append(Expected(Stage.DATA, one))
        elif transaction.content is not None:
            content = Outgoing(stuff=False).feed(transaction.content, last=True)
            commands.append(b"BDAT %d LAST\r\n" % len(content))
            expected.append(Expected(Stage.DOT, one))
        one.waiting += len(expected)
        self._wire.say(b"".join(commands), *expected)
        if content is not None:
            self._wire.content(content)
            one.final = self._wire.pushed
            self._launch_next()

    def _say_mail(self, one: Open) -> None:
        self._say(one, mail_command(one.transaction, one.offered, self._capabilities), Stage.MAIL)
        one.first = self._wire.pushed

    def _give_content(self, one: Open, events: list[ClientEvent]) -> None:
        """The server waits for content, or would take a chunk: write it or ask for it."""
        content = one.transaction.content
        if content is None:
            one.outgoing = Outgoing(stuff=not self._chunking)
            events.append(WantBody(one.transaction))
            return
        data = Outgoing(stuff=not self._chunking).feed(content, last=True)
        if self._chunking:
            self._say(one, b"BDAT %d LAST\r\n" % len(data), Stage.DOT)
            self._wire.content(data)
        else:
            self._wire.content(data)
            self._say(one, _DOT, Stage.DOT)
        one.final = self._wire.pushed
        self._launch_next()

    # --- replies

    def take(self, expected: Expected, reply: Reply, events: list[ClientEvent]) -> None:
        """What the reply to one of our commands means. Raises OutOfStepError."""
        one: Open = expected.owner
        stage = expected.stage
        one.waiting -= 1
        if one.waiting and reply.positive and stage is not Stage.DATA:  # the common case, told apart first
            if stage is Stage.RCPT:
                self._take_rcpt(one, expected.place, reply)
            return
        if 300 <= reply.code < 400 and not (stage is Stage.DATA and reply.code == 354):
            raise OutOfStepError(f"not an answer to {stage.value}: {reply}")
        if stage is Stage.RCPT:
            self._take_rcpt(one, expected.place, reply)
        elif stage is Stage.DOT:
            self._take_final(one, reply)
        elif stage is Stage.DATA:
            self._take_data(one, reply, events)
        elif not reply.positive:
            if stage is Stage.RSET:  # nobody knows now to which transaction our next words would belong
                raise OutOfStepError(f"RSET was refused: {reply}")
            one.settle_rest(_verdict(reply), reply, stage)  # MAIL, or a chunk
            one.outgoing = None
        self._go_on(one, stage, events)

    def _take_rcpt(self, one: Open, index: int, reply: Reply) -> None:
        if _plant_reply_desync:
            index = one.offered[(one.offered.index(index) + 1) % len(one.offered)]
        if one.results[index] is not None:  # MAIL was refused, so this says nothing new
            return
        if reply.positive:
            one.accepted += 1
        elif reply.code == 552 and reply.enhanced in (
            "",
            "5.5.3",
        ):  # too many, RFC 5321
            one.settle(index, Verdict.TEMPORARY, reply, Stage.RCPT)
        else:
            one.settle(index, _verdict(reply), reply, Stage.RCPT)

    def _take_data(self, one: Open, reply: Reply, events: list[ClientEvent]) -> None:
        if reply.positive:
            raise OutOfStepError(f"not an answer to data: {reply}")
        if reply.code != 354:
            one.settle_rest(_verdict(reply), reply, Stage.DATA)
        elif one.accepted:
            self._give_content(one, events)
        else:  # it wants content for nobody: the dot alone ends that, and nothing is expected of the answer
            self._say(one, _DOT, Stage.DOT)
            one.final = self._wire.pushed
            self._launch_next()

    def _take_final(self, one: Open, reply: Reply) -> None:
        one.settle_rest(Verdict.ACCEPTED if reply.positive else _verdict(reply), reply, Stage.DOT)

    def _go_on(self, one: Open, stage: Stage, events: list[ClientEvent]) -> None:
        """After a reply: the next step of a transaction, or its end."""
        if one.waiting or one.outgoing is not None:
            return
        if stage is Stage.DOT:
            self._left_open = not any(other.launched for other in self._open if other is not one) and (
                not one.accepted or (self._chunking and one.transaction.content is None)
            )
            self._finish(one, events)
            return
        if not self._pipelining and self._next_step(one, stage):
            return
        if one.accepted and None in one.results:
            if self._chunking:
                self._give_content(one, events)
            elif not self._pipelining:
                self._say(one, b"DATA\r\n", Stage.DATA)
            return
        self._left_open = stage is not Stage.MAIL
        self._finish(one, events)

    def _next_step(self, one: Open, stage: Stage) -> bool:
        """In lock-step: MAIL after RSET, the next RCPT where MAIL was accepted; False: neither is due."""
        if stage is Stage.RSET:
            self._say_mail(one)
            return True
        if one.next_rcpt >= len(one.offered) or one.results[one.offered[one.next_rcpt]] is not None:
            return False
        index = one.offered[one.next_rcpt]
        one.next_rcpt += 1
        self._say(one, rcpt_command(one.transaction.recipients[index], self._capabilities), Stage.RCPT, index)
        return True

    def _finish(self, one: Open, events: list[ClientEvent]) -> None:
        self._open.remove(one)
        events.append(_done(one))
        self._launch_next()

    # --- endings

    def closed_by_server(self, reply: Reply, events: list[ClientEvent]) -> None:
        """421 stands where the reply to the oldest command would stand, or comes out of the blue."""
        oldest = self._wire.oldest
        at_current = oldest is None or oldest.stage is not Stage.RSET
        for position, one in enumerate(self._open):
            if position == 0 and at_current and self._wire.given_out(one.first):
                stage = oldest.stage if oldest is not None else Stage.BODY
                one.settle_rest(Verdict.TEMPORARY, reply, stage)
            else:
                one.settle_rest(Verdict.UNSENT, reply, Stage.IDLE)
            events.append(_done(one))
        self._open.clear()

    def lost(self, reply: Reply, events: list[ClientEvent]) -> None:
        """The connection is gone, or the server out of step: no reply will ever come."""
        oldest = self._wire.oldest
        for position, one in enumerate(self._open):
            if self._wire.given_out(one.final):
                one.settle_rest(Verdict.UNKNOWN, reply, Stage.DOT)
            elif position == 0 and self._wire.given_out(one.first):
                one.settle_rest(Verdict.TEMPORARY, reply, oldest.stage if oldest else Stage.BODY)
            else:
                one.settle_rest(Verdict.UNSENT, reply, Stage.IDLE)
            events.append(_done(one))
        self._open.clear()


def _verdict(reply: Reply) -> Verdict:
    return Verdict.PERMANENT if reply.permanent else Verdict.TEMPORARY


def _done(one: Open) -> Done:
    return Done(one.transaction, tuple(result for result in one.results if result is not None))
