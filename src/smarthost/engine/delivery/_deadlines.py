"""How long each stage may take, in seconds.

RFC 5321 4.5.3.2 names minutes for each command; those of the transaction are kept, since a server may be slow
there for good reasons. What stands before MAIL is shorter: nobody's mail waits in doubt there. A deadline
holds for the whole stage and not for a byte, so a server that sends one byte a second gains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds. `setup` bounds everything before a session is ready; `idle` and `age` end kept sessions.

    recipient  what each recipient adds to `rcpt`: some servers answer each one slowly on purpose.
    fence  a session writes nothing once its engine could not beat for so long (leases end at 30 s).
    sweep  how often deadlines are looked at: one timer for all sessions instead of one a command.
    """

    connect: float = 30
    banner: float = 120
    ehlo: float = 120
    starttls: float = 60
    tls: float = 30
    auth: float = 60
    mail: float = 300
    rcpt: float = 300
    recipient: float = 3
    data: float = 120
    body: float = 180
    dot: float = 600
    rset: float = 20
    quit: float = 5
    setup: float = 240
    idle: float = 60
    age: float = 600
    messages: int = 1000
    fence: float = 20
    sweep: float = 1

    def stage(self, name: str) -> float:
        """The deadline of a stage by its name; `rset` for one without its own."""
        return float(getattr(self, name, self.rset))

    def scaled(self, factor: float) -> Deadlines:
        """All spans times `factor`: for tests. `messages` stays."""
        return Deadlines(
            **{
                one.name: getattr(self, one.name)
                if one.name == "messages"
                else getattr(self, one.name) * factor
                for one in fields(self)
            }
        )
