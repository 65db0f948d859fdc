"""Prices, caps and the account: nothing more is let out than may be spent, and what is drawn finds its judging paid."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.records.bill import Amount, Bill
from cluster.spending.account import Account, check_prices
from cluster.spending.books import Books
from cluster.spending.loan import Keeping, Loan
from cluster.spending.purse import Purse
from cluster.storage.parts import Part
from cluster.storage.ranges import Ranges
from cluster.storage.root import Root
from operators.verify.judge import VerifyJudge
from schemas.budget import Budget
from schemas.errors import BadInput
from schemas.prices import Prices, price_of


def test_prices_that_are_known_and_that_are_not() -> None:
    hourly = Prices(dollars_per_gpu_hour=2.5)
    by_token = Prices(dollars_per_million_prompt_tokens=1.0, dollars_per_million_completion_tokens=4.0)
    check_prices(Budget(dollars=1.0), hourly, "m")
    with pytest.raises(BadInput, match="no price of 'm' is known"):
        check_prices(Budget(dollars=1.0), Prices(), "m")
    half = Prices(dollars_per_million_completion_tokens=4.0)
    with pytest.raises(BadInput, match="no price of 'm' is known"):
        check_prices(Budget(dollars=1.0), half, "m")  # an unknown price of prompts isn't zero
    assert half.microdollars(10, 0, 10, 0.0) is None
    assert by_token.microdollars(10, 4, 5, 0.0) == 10 + 20
    table = {"gpt-*": by_token, "gpt-5": hourly, "gpt-5-*": hourly}
    assert price_of("gpt-4", table) is by_token and price_of("gpt-5-mini", table) is hourly
    assert price_of("llama", table) is None


def test_a_budget_says_something_and_caps_are_positive() -> None:
    for wrong in ({}, {"tokens": 0}, {"dollars": -1}, {"tokns": 5}):
        with pytest.raises(ValueError, match=r"."):
            Budget.model_validate(wrong)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_account_never_lets_more_out_than_its_caps(data: st.DataObject) -> None:
    cap = data.draw(st.integers(1, 2_000))
    account = Account(Budget(tokens=cap), Amount(tokens=data.draw(st.integers(0, cap))))
    purse = Purse(account, Books(Root.at("nowhere"), "run"), "sample", None, 2)
    purse.learn_prompts(np.array([0, 1]), np.array([10, 40]), max_tokens=20)
    used, out = account.spent.tokens, list[Ranges]()
    for step in range(40):
        wanted = data.draw(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 8)), min_size=1, max_size=3))
        asked = Ranges.of([number for number, _ in wanted], step * 10, [size for _, size in wanted])
        sizes = purse.affords(asked)
        assert (sizes <= asked.sizes).all()
        for place in sizes.nonzero()[0].tolist():
            out.append(Ranges(asked.starts[place : place + 1], sizes[place : place + 1]))
        if out and data.draw(st.booleans()):
            item = out.pop(data.draw(st.integers(0, len(out) - 1)))
            worst = int(purse.worst(item.numbers)[0][0])
            if data.draw(st.booleans()):
                took = item.total * data.draw(st.integers(0, worst))
                part = Part("p", item.total, 0, "", tallies={"completion_tokens": float(took)})
                purse.settle(part, item)
            else:
                took = item.total * worst  # it may have taken all that
                purse.charge(item)
            used += took
        assert account.spent.tokens == used
        assert account.spent.tokens + account.reserved.tokens <= cap
    assert purse.reserved == sum(item.total for item in out)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_judging_always_finds_what_was_kept_for_it(data: st.DataObject) -> None:
    cap = data.draw(st.integers(1_000, 20_000))
    account, books = Account(Budget(tokens=cap), Amount()), Books(Root.at("nowhere"), "run")
    judge = VerifyJudge(votes=2, max_tokens=10)
    loan = Loan(account, books, "verify", "scorer", None)
    keeping = Keeping(loan, judge, 20, 1, Ranges.none)
    purse = Purse(account, books, "sample", None, 1, (keeping,))
    purse.learn_prompts(np.array([0]), np.array([10]), max_tokens=20)
    drawn: list[int] = []  # the lengths of samples that wait for their verdict
    for step in range(40):
        ranges = Ranges.of(0, step * 10, data.draw(st.integers(1, 5)))
        sizes = purse.affords(ranges)
        if sizes[0]:
            sent = Ranges(ranges.starts, sizes)
            if data.draw(st.integers(0, 3)):
                lengths = [data.draw(st.integers(1, 20)) for _ in range(int(sizes[0]))]
                tallies = {"prompt_tokens": 10.0 * len(lengths), "completion_tokens": float(sum(lengths))}
                purse.settle(Part("p", len(lengths), 0, "", tallies=tallies), sent)
                drawn += lengths
            else:
                purse.charge(sent)
        while drawn and data.draw(st.booleans()):
            read, written = judge.most_tokens(10, drawn.pop())
            for _ in range(2):  # two votes, each at its worst case
                worst = Amount(0, read // 2, 0) + Amount(0, written // 2, 0)
                lent = loan.lend(worst, worst)
                assert lent.covers(worst), "what is drawn is judged"
                took = data.draw(st.integers(0, lent.tokens))
                loan.on_report(Bill(1, took), Amount(0, took), Amount(), lent - Amount(0, took))
            loan.on_done(1, False)
        assert account.spent.tokens + account.reserved.tokens + loan.kept().tokens <= cap
    while drawn:
        read, written = judge.most_tokens(10, drawn.pop())
        assert loan.lend(Amount(0, read + written), Amount(0, read + written))
