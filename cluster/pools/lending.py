"""Lending: credit for the calls of a stage's workers, role by role; their bills stand in the books either way."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from cluster.pools.replica import Replica
from cluster.records.bill import Amount
from cluster.spending.books import Books
from cluster.spending.loan import Loan
from cluster.stages.states import StageState
from cluster.working.engine_worker import EngineWorker
from cluster.working.reports import Report


class Lending:
    """The credit of one stage's workers."""

    def __init__(self, state: StageState, books: Books) -> None:
        self._state = state
        self._books = books

    @property
    def _loans(self) -> dict[str, Loan]:
        return self._state.loans

    def on_report(self, replica: Replica, report: Report) -> None:
        """Take what each role's calls took, and what the worker gives back."""
        for role, dues in report.dues.items():
            bill = dues.bill
            took = bill.prompt_tokens, bill.cached_prompt_tokens, bill.completion_tokens
            self._state.record.add_calls(role, bill.calls, bill.passes, *took)
            if (loan := self._loans.get(role)) is not None:
                account = replica.credit[role]
                account.lent -= dues.paid + dues.returned
                account.wants, account.first, account.in_flight = dues.wants, dues.first, dues.in_flight
                loan.on_report(bill, dues.paid, dues.lost, dues.returned)
            elif bill.calls:
                self._books.add("bill", self._state.name, role, Amount(), bill)

    def plan(self, replica: Replica, at_any_rate: bool = False) -> list[Callable[[], None]]:
        """Return what hands over the credit that a worker wants, as far as there is so much; the books know of it.

        Args:
            at_any_rate: out of what is kept for others, too.
        """
        orders: list[Callable[[], None]] = []
        for role, loan in self._loans.items():
            account = replica.credit[role]
            if account.wants and (amount := loan.lend(account.wants, account.first, at_any_rate)):
                account.lent += amount
                account.wants = account.first = Amount()
                orders.append(partial(_hand_over, replica, role, amount))
        return orders

    def drop(self, replica: Replica) -> None:
        """Hear that a worker is gone: nobody knows what it did with its credit."""
        for role, loan in self._loans.items():
            loan.on_worker_lost(replica.credit[role].lent)
            replica.credit[role].lent = Amount()


def _hand_over(replica: Replica, role: str, amount: Amount) -> None:
    _ignore(replica.handle.call(EngineWorker.lend, role, amount))


def _ignore(_: Future[None]) -> None:
    """A worker that dies before it hears is noticed by its reports."""
