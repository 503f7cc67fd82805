"""What shadow samples correct: each stratum as a whole, its lines by their parts, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction

from policies.sampling import Estimate, Stratum, StratumEstimate
from router.reports.account import Account, Question, take_account
from router.reports.currency import Currency
from router.reports.periods import ReportPeriod
from tests.support.books import RecordBooks
from tests.support.spend import spend_record

FROM_MS = 1_793_491_200_000
PERIOD = ReportPeriod(FROM_MS, FROM_MS + 3_600_000)


class Dictated:
    """An estimator that says what it is told, and remembers what it was asked."""

    def __init__(self, corrected: int, margin: int) -> None:
        self.asked: Sequence[Stratum] = ()
        self._corrected, self._margin = corrected, margin

    def __call__(self, strata: Sequence[Stratum]) -> Estimate:
        self.asked = strata
        ends = self._corrected - self._margin, self._corrected + self._margin
        each = {one.name: StratumEstimate(self._corrected, *ends, len(one.samples), "samples") for one in strata}
        total = self._corrected * len(strata)
        return Estimate(total, total - self._margin, total + self._margin, each)


def request(request_id: str, **changes: object) -> object:
    values = {"started_at_ms": FROM_MS, "task": "chat", "cost_nusd": 0, "baseline_cost_nusd": 1_000} | changes
    return spend_record(request_id, **values)


def shadow(parent_id: str, cost_nusd: int, task: str = "chat") -> object:
    return spend_record(
        f"{parent_id}-shadow", kind="shadow", parent_id=parent_id, sample_share=0.5, deployment="gpt-4", task=task,
        started_at_ms=FROM_MS, cost_nusd=cost_nusd, baseline_cost_nusd=0,
    )  # fmt: skip


def account(records: Sequence[object], estimator: Dictated, **terms: object) -> Account:
    ledger = RecordBooks(records)  # type: ignore[arg-type]
    return take_account(ledger, Question(PERIOD, ("team", "alias"), **terms), estimator)  # type: ignore[arg-type]


def test_strata_are_of_a_model_and_a_task_and_only_of_estimates() -> None:
    dictated = Dictated(0, 0)
    account(
        [
            request("a"), request("b", cache="hit"), request("c", status="cancelled"), request("d", task=None),
            request("e", deployment="gpt-4"), request("f", status="abandoned"), request("g", deployment=None),
            request("h", status="error", baseline_cost_nusd=0), shadow("a", 900), shadow("e", 700),
        ],
        dictated,
    )  # fmt: skip
    chat, other = sorted(dictated.asked, key=lambda stratum: -stratum.booked_count)
    assert (chat.booked_count, chat.booked_nusd, chat.samples) == (3, 3_000, [(1_000, 900, 0.5)])
    assert (other.booked_count, other.samples) == (1, [])
    assert chat.pair == other.pair == "mistral-7b for gpt-4"


def test_a_correction_is_shared_out_by_what_was_booked_and_credited_to_the_driver() -> None:
    records = [request("a"), request("b", team_id="sales", cache="hit"), request("c", team_id="sales")]
    lines = account(records, Dictated(2_000, 300)).lines(["team"])
    by_team = {line.names[0]: line for line in lines}
    assert {team: line.figures.correction for team, line in by_team.items()} == {"sales": -667, "support": -333}
    assert by_team["sales"].drivers == {"smaller_model": 667, "response_cache": 666}


def test_a_line_is_less_sure_than_its_share_of_the_whole() -> None:
    """It adds what its few requests may miss the mean of all by."""
    records = [request(f"r{at}", alias="rare" if at == 0 else "auto") for at in range(100)]
    found = account(records, Dictated(100_000, 10_000))
    rare, total = found.lines(["alias"])[-1], found.total
    assert (total.low, total.high) == (90_000, 110_000)
    assert rare.names == ("rare",)
    assert rare.low < 1_000 - 100 < 1_000 + 100 < rare.high


def test_what_was_estimated_together_is_wrong_together() -> None:
    few = [request(f"{task}{at}", task=task) for task in ("chat", "code") for at in range(2)]
    line = account(few, Dictated(2_000, 300), where={"alias": ["auto"]}).total
    assert (line.low, line.high) == (4_000 - 600, 4_000 + 600)
    sampled = [shadow(f"{task}{at}", 1_000, task) for task in ("chat", "code") for at in range(2)] * 5
    apart = account([*few, *sampled], Dictated(2_000, 300), where={"alias": ["auto"], "status": ["ok"]}).total
    assert (apart.low, apart.high) == (4_000 - 424, 4_000 + 424)


def test_a_report_of_one_team_is_corrected_by_the_samples_of_all() -> None:
    records = [request("a"), request("b", team_id="sales"), shadow("a", 900)]
    dictated = Dictated(1_600, 0)
    own = account(records, dictated, where={"team": ["sales"]})
    assert dictated.asked[0].booked_count == 2
    assert own.total.figures.counterfactual == 800
    assert own.corrections.sample_count == 1


def test_the_interval_is_converted_with_what_it_is_around() -> None:
    yuan = Currency("CNY", ((date(2020, 1, 1), Fraction(7)),))
    total = account([request("a")], Dictated(1_000, 100), currency=yuan).total
    assert (total.low, total.figures.counterfactual, total.high) == (6_300, 7_000, 7_700)
