"""What an attempt means for each recipient: from replies to outcomes. Pure.

The verdict of the protocol and the cause of the failure together decide: a refusal that is the route's fault
gives the row back as it was; a message's own goes its schedule or ends; a dot without an answer is UNKNOWN
and nothing else. Each recipient is judged for itself, whatever became of the others.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from smarthost.engine.delivery._classify import Fault, about_recipient, classify, fingerprint, permanent
from smarthost.engine.delivery._prepare import Job
from smarthost.engine.delivery._schedule import next_try
from smarthost.faults import planted
from smarthost.routing import UnknownPolicy
from smarthost.smtp import Result, Verdict
from smarthost.spool import Door, LeasedDelivery, Outcome, State, after_unknown

SLOWER = frozenset({Fault.THROTTLE, Fault.QUOTA})
RETRY_WHOLE_LIST = planted("retry-whole-list")
UNKNOWN_AS_FAILED = planted("unknown-as-failed")


@dataclass(slots=True)
class Circumstances:
    """What holds for every outcome of one transaction. `now` in microseconds."""

    now: int
    session: str
    timings: str
    transcript: Callable[[], str]
    policy: UnknownPolicy
    retry_after: int


@dataclass(slots=True)
class Judgement:
    """outcomes: settled. suspects: (fingerprint, outcome) that may yet turn out to be the route's fault."""

    outcomes: list[Outcome] = field(default_factory=list)
    suspects: list[tuple[str, Outcome]] = field(default_factory=list)
    accepted: int = 0
    fault: tuple[Fault, str] | None = None


def judge(job: Job, results: tuple[Result, ...], facts: Circumstances) -> Judgement:
    """One outcome for each recipient of the transaction."""
    judgement = Judgement()
    token, now = job.lease.token, facts.now
    for delivery, result in zip(job.deliveries, results, strict=True):
        verdict = result.verdict
        reply = result.reply
        if verdict is Verdict.ACCEPTED and not (RETRY_WHOLE_LIST and _partial(results)):
            judgement.accepted += 1
            judgement.outcomes.append(
                Outcome(
                    delivery.id, token, State.SENT, now, None, True, reply.code, reply.enhanced, reply.text,
                    "dot", False, facts.session, facts.timings,
                )
            )  # fmt: skip
        elif verdict is Verdict.UNSENT:
            judgement.outcomes.append(give_back(delivery, token, now))
        else:
            _refused(judgement, job, delivery, result, facts)
    return judgement


def _refused(
    judgement: Judgement, job: Job, delivery: LeasedDelivery, result: Result, facts: Circumstances
) -> None:
    reply, stage, now = result.reply, result.stage.value, facts.now
    state, due_at, counts = State.FAILED, None, True
    fault = Fault.MESSAGE
    if result.verdict is Verdict.UNKNOWN:
        if not UNKNOWN_AS_FAILED:
            state = State.UNKNOWN
            due_at = after_unknown(now, delivery.unknown_ends + 1, facts.policy, facts.retry_after)
    else:
        if not reply.local:
            fault = classify(stage, reply.code, reply.enhanced, reply.text)
        if job.lease.door is Door.NOTICE and fault not in SLOWER:
            fault = Fault.MESSAGE  # who refuses the null sender refuses notices, not us
        if fault is not Fault.MESSAGE:
            state, counts = State.QUEUED, False
            judgement.fault = (fault, str(reply))
        elif result.verdict is not Verdict.PERMANENT or not permanent(reply.code):
            due_at = next_try(now, delivery.attempts + 1, job.lease.expires_at, reply.text, random.random())  # noqa: S311
            state = State.EXPIRED if due_at is None else State.DEFERRED
    outcome = Outcome(
        delivery.id, job.lease.token, state, now, due_at, counts, reply.code, reply.enhanced, reply.text,
        stage, reply.local, facts.session, facts.timings, facts.transcript(),
    )  # fmt: skip
    if (
        fault is Fault.MESSAGE
        and state is not State.UNKNOWN
        and job.lease.door is not Door.NOTICE
        and not reply.local
        and not about_recipient(stage, reply.enhanced, reply.text)
    ):
        judgement.suspects.append((fingerprint(stage, reply.code, reply.enhanced, reply.text), outcome))
    else:
        judgement.outcomes.append(outcome)


def _partial(results: tuple[Result, ...]) -> bool:
    return any(result.verdict is Verdict.TEMPORARY for result in results)


def give_back(delivery: LeasedDelivery, token: int, now: int) -> Outcome:
    """The row as it was before the lease: ready again, no attempt."""
    return Outcome(delivery.id, token, State.QUEUED, now, counts=False)


def acquitted(outcome: Outcome) -> Outcome:
    """A refusal that turned out to be the route's fault: the message does not pay for it."""
    return replace(outcome, state=State.QUEUED, due_at=None, counts=False)


def failed_here(delivery: LeasedDelivery, token: int, now: int, enhanced: str, text: str) -> Outcome:
    """A message that cannot be sent by anybody, found by ourselves."""
    return Outcome(
        delivery.id, token, State.FAILED, now, code=554, enhanced=enhanced, reply=text, stage="", local=True
    )


def held_here(delivery: LeasedDelivery, token: int, now: int, text: str) -> Outcome:
    """A delivery that waits for a person."""
    return Outcome(delivery.id, token, State.HELD, now, counts=False, reply=text, local=True)
