"""A line of the scorecard."""

from __future__ import annotations

from dataclasses import dataclass, field

from campaign.judge import Verdict


@dataclass(slots=True)
class Score:
    """One scenario on one database. `faults` are failures of the scenario itself, beside its invariants."""

    name: str
    database: str
    verdict: Verdict = field(default_factory=Verdict)
    cases: int = 0
    faults: list[str] = field(default_factory=list)
    note: str = ""
    skipped: str = ""

    @property
    def failures(self) -> list[str]:
        return [*self.faults, *self.verdict.broken]

    @property
    def passed(self) -> bool:
        return not self.failures


def markdown(scores: list[Score]) -> str:
    """The scorecard as people read it."""
    lines = [
        "| scenario | database | cases | acknowledged | lost | copies | unknown ends | result |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    for score in scores:
        verdict = score.verdict
        result = f"skipped: {score.skipped}" if score.skipped else "; ".join(score.failures) or "pass"
        if score.note:
            result += f" ({score.note})"
        lines.append(
            f"| {score.name} | {score.database} | {score.cases} | {verdict.acknowledged} | {len(verdict.lost)} "
            f"| {verdict.copies} | {verdict.unknown_ends} | {result} |"
        )
    return "\n".join(lines)
