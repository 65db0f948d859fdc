"""When a job runs by itself, who hears of it, and what is kept (``schedule:``, ``notify:``, ``retention:``)."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from schemas.settings import Settings

Event = Literal["failed", "done", "missed", "budget"]
"""A night that failed (each time it is tried), is done, was left out, or can't be afforded any more this month."""


class MonthlyCap(Settings):
    """What all nights of a calendar month (of the schedule's time zone) may spend together."""

    samples: int | None = Field(default=None, ge=1)
    tokens: int | None = Field(default=None, ge=1)
    dollars: float | None = Field(default=None, gt=0.0)


class Schedule(Settings):
    """One run a date: when, and what happens where one was missed or failed."""

    cron: str
    """Five fields: minute, hour, day of the month, month, day of the week. At most one time a date."""
    timezone: str = "UTC"
    """An IANA name. A time that a clock change skips is taken as the one after the gap; one that comes twice runs
    once, the first time."""
    start: date | None = None
    """No night before this date."""
    catch_up: Literal["latest", "all", "none"] = "latest"
    """Which of the nights that nobody was awake for are run later."""
    window_hours: float = Field(default=6.0, gt=0)
    """How long after its time a night may still begin, and for how long one that failed is tried again."""
    retry_minutes: float = Field(default=15.0, ge=0)
    """How long after a failure the night is tried again."""
    month: MonthlyCap | None = None
    """What may be spent in a month; ``run.budget`` is what one night may spend."""
    new_only: bool = True
    """Leave out problems that earlier nights finished; a problem whose content changed is a new one."""
    learn: bool = True
    """Let a policy begin with what the last complete night learned, and place experts by the tokens it counted."""

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"'{name}' isn't an IANA time zone, such as Europe/Berlin or UTC") from error
        return name


class Notice(Settings):
    """Base of who hears of a night."""

    events: tuple[Event, ...] = ("failed", "missed", "budget")


class Webhook(Notice):
    """POST of a JSON document."""

    kind: Literal["webhook"] = "webhook"
    url: str | None = None
    url_env: str | None = None
    """The environment variable with the URL, where the URL itself is a secret."""


class Command(Notice):
    """A program that gets the document on its standard input. No shell."""

    kind: Literal["command"] = "command"
    command: tuple[str, ...] = Field(min_length=1)


class Email(Notice):
    """A message through an SMTP server."""

    kind: Literal["email"] = "email"
    host: str
    port: int = Field(default=587, ge=1, le=65535)
    sender: str
    to: tuple[str, ...] = Field(min_length=1)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password_env: str | None = None
    """The environment variable with the password."""


AnyNotice = Annotated[Webhook | Command | Email, Field(discriminator="kind")]


class Retention(Settings):
    """What ``gristmill gc`` keeps of this job's runs. Paid samples, their verdicts and scores always stay."""

    runs: int | None = Field(default=None, ge=1)
    """How many of the newest runs are kept."""
    days: float | None = Field(default=None, gt=0)
    """Runs younger than this many days are kept as well."""


class ExportSpec(Settings):
    """Training data that a night writes beside its record (``gristmill export``)."""

    format: Literal["messages", "prompt-completion", "preference", "step-rewards", "sharegpt", "alpaca"] = "messages"
    stage: str | None = None
    reasoning: Literal["tags", "open", "field", "drop"] = "tags"
    validation: float = Field(default=0.05, ge=0.0, le=0.9)
    licence: str = "unknown"
