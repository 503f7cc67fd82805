"""Reports from a real ledger: the command line and the admin API say the same, to whoever may see it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from router.api import admin_reports
from router.cli import admin, report
from router.clock import Clock
from router.config import load_config
from router.reports.exports.formats import CONTENT_TYPES
from router.services import AdminServices
from router.stores.cells import ROUTER, HourCost
from tests.support.admin_api import client_of
from tests.support.administration import PRICES
from tests.support.spend import spend_record

Command = Callable[..., Result]
HOUR_MS = 3_600_000
START_MS = 1_793_491_200_000  # 2026-11-01T00:00Z
NOVEMBER = {"period": "2026-11"}


@pytest.fixture
def run(config: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("PARSIMONY_CONFIG", str(config))
    monkeypatch.setenv("COLUMNS", "160")

    def invoke(*words: str) -> Result:
        return CliRunner().invoke(report.app, words)

    return invoke


@pytest.fixture
def client(services: AdminServices) -> TestClient:
    return client_of(services)


@pytest.fixture(autouse=True)
def ledger(services: AdminServices) -> None:
    """Two teams, two models, a shadow, and three hours of a machine in one of which nobody asked for anything."""
    services.directory.create_team("support")
    services.directory.create_team("sales")
    common: dict[str, Any] = {"deployment": "small", "task": "chat", "started_at_ms": START_MS}
    services.ledger.append(
        [
            spend_record("a", **common, cost_nusd=100, baseline_cost_nusd=1_000, tags=",batch,"),
            spend_record("b", **common, team_id="sales", cost_nusd=300, baseline_cost_nusd=1_000, tags=",batch,x,"),
            spend_record("c", **(common | {"deployment": "large"}), cost_nusd=900, baseline_cost_nusd=900),
            spend_record(
                "s", **(common | {"deployment": "large"}), kind="shadow", parent_id="a", sample_share=0.5,
                cost_nusd=1_000, baseline_cost_nusd=0,
            ),
        ]
    )  # fmt: skip
    services.books.close_hours(
        [HourCost(START_MS + at * HOUR_MS, "small", "a100-40gb", 1, 1_000) for at in range(2)]
        + [HourCost(START_MS, ROUTER, "ml.m5.xlarge", 1, 70)]
    )


EFFECTIVE = 2_300 + 600 + 1_000 + 70


def test_savings_by_two_dimensions_add_up(client: TestClient) -> None:
    found = client.get("/reports/savings", params=NOVEMBER | {"by": ["team", "model"]}).json()
    lines = {(row["team"], row["model"]): row["effective_cost_nusd"] for row in found["rows"]}
    assert lines == {
        ("support", "small"): 250, ("sales", "small"): 750, ("support", "large"): 1_900,
        ("(idle)", "small (idle)"): 1_000, ("(router)", "(router)"): 70,
    }  # fmt: skip
    assert found["total"]["effective_cost_nusd"] == EFFECTIVE
    assert found["total"]["counterfactual_nusd"] == 2_900
    assert "1 shadow samples" in " ".join(found["basis"])
    assert found["provenance"]["closed_until"] == {
        "(router)": "2026-11-01T01:00:00.000+00:00", "small": "2026-11-01T02:00:00.000+00:00",
    }  # fmt: skip


def test_a_chargeback_charges_all_that_the_period_cost(client: TestClient) -> None:
    found = client.get("/reports/chargeback", params=NOVEMBER).json()
    charged = {row["team"]: row["charged_nusd"] for row in found["rows"]}
    assert sum(charged.values()) == EFFECTIVE == found["total"]["charged_nusd"]
    assert charged["sales"] == 300 + 1_600 * 3 // 4 + 23


def test_a_tag_is_one_among_a_requests_tags(client: TestClient) -> None:
    found = client.get("/reports/savings", params=NOVEMBER | {"by": "tag", "tag": "x"}).json()
    assert [row["tag"] for row in found["rows"]] == ["batch, x"]


def test_a_viewer_sees_its_own_team_and_no_machines(services: AdminServices) -> None:
    viewer = client_of(services, "viewer", "sales")
    found = viewer.get("/reports/savings", params=NOVEMBER | {"by": "team"}).json()
    assert [(row["team"], row["effective_cost_nusd"]) for row in found["rows"]] == [("sales", 750)]
    items = viewer.get("/reports/savings", params=NOVEMBER | {"format": "focus"}).text
    assert {row["SubAccountId"] for row in csv.DictReader(io.StringIO(items))} == {"sales"}
    for name in ("utilization", "break-even"):
        assert viewer.get(f"/reports/{name}", params=NOVEMBER).status_code == 403


def test_other_currencies_are_converted_and_say_so(client: TestClient) -> None:
    found = client.get("/reports/chargeback", params=NOVEMBER | {"currency": "CNY"}).json()
    assert found["total"]["list_cost_ncny"] == round(100 * 7.189) + round(300 * 7.189) + round(900 * 7.189)
    assert "Amounts are in CNY" in found["basis"][-2]


@pytest.mark.parametrize(
    ("param", "query", "message"),
    [
        ("by", {"by": "colour"}, "cannot be by 'colour'"),
        ("by", {"by": ["team", "team"]}, "cannot be twice by the same: team, team"),
        ("by", {"format": "focus", "by": "team"}, "line items are by day, team and model"),
        ("by", {"by": "day", "from": "1970-01-01"}, "too many rows"),
        ("currency", {"currency": "XXX", "by": "team"}, "no rate is known for the currency 'XXX'"),
        ("currency", {"currency": "XXX"}, "known are USD, CNY"),
        ("currency", {"format": "focus", "currency": "CNY"}, "line items are in USD"),
        ("period", {"period": "soon"}, "'period' is 'soon'"),
        ("period", {"period": "2026-11", "from": "2026-11-02"}, "a period has a beginning and an end of its own"),
        ("period", {"period": "2026-13"}, "which is in no calendar"),
        ("from", {"from": "soon"}, "'from' is 'soon'"),
        ("to", {"to": "2026-11-32"}, "'to' is '2026-11-32'"),
        ("to", {"to": "9999-12-31"}, "allowed is 1970-01-01 to 9998-12-31"),
        ("from", {"from": "2026-11-02", "to": "2026-11-01"}, "the report ends before it begins"),
        ("to", {"to": "1970-01-02"}, "the report ends before it begins"),
        ("timezone", {"timezone": "Mars"}, "there is no time zone 'Mars'"),
        ("format", {"format": "xml"}, "there is no format 'xml' here; allowed are json, csv, html, parquet, focus"),
        ("format", {"format": ""}, "there is no format '' here"),
        ("task", {"format": "focus", "task": "chat"}, "line items cannot be restricted by 'task'"),
        ("model", {"model": "smal"}, "there is no model 'smal', nor was there in this time: did you mean small?"),
        ("provider", {"provider": "aws"}, "no provider 'aws', nor was there in this time: there are vllm, openai"),
        (
            "project",
            {"project": "x", "by": "team"},
            "there is no project 'x', nor was there in this time: there is none",
        ),
        ("key", {"key": "key_0", "format": "focus"}, "there is no key 'key_0'"),
        (
            "teams",
            {"teams": "a"},
            "there is no parameter 'teams' of /admin/v1/reports/savings; allowed are by, format, ",
        ),
    ],
)
def test_what_cannot_be_reported_is_the_callers_mistake_and_its_parameter_is_named(
    client: TestClient, param: str, query: dict[str, str], message: str
) -> None:
    answer = client.get("/reports/savings", params=query)
    told = answer.json()
    assert (answer.status_code, told["message"].find(message) >= 0, told["param"]) == (400, True, param), answer.text


@pytest.mark.parametrize("name", ["chargeback", "utilization", "break-even"])
def test_a_format_that_is_none_is_named_with_those_that_are(client: TestClient, name: str) -> None:
    formats = ["json", "csv", "html", "parquet", *(["focus"] if name == "chargeback" else [])]
    for wrong in ("xml", *({"focus"} - {*formats})):
        told = client.get(f"/reports/{name}", params=NOVEMBER | {"format": wrong}).json()
        assert told["message"] == f"there is no format {wrong!r} here; allowed are {', '.join(formats)}"
        assert told["param"] == "format"
    parameters = client.app.openapi()["paths"][f"/admin/v1/reports/{name}"]["get"]["parameters"]  # type: ignore[attr-defined]
    (described,) = [parameter["schema"] for parameter in parameters if parameter["name"] == "format"]
    assert (described["enum"], described["default"]) == (formats, "json")


@pytest.mark.parametrize("name", ["utilization", "break-even"])
@pytest.mark.parametrize("query", [{"by": "model"}, {"team": "sales"}, {"currency": "CNY"}])
def test_what_a_report_of_machines_does_not_know_is_not_passed_over(
    client: TestClient, name: str, query: dict[str, str]
) -> None:
    answer = client.get(f"/reports/{name}", params=NOVEMBER | query)
    assert answer.status_code == 400
    (parameter,) = query
    expected = f"no parameter {parameter!r} of /admin/v1/reports/{name}; allowed are format, from, to, period, timezone"
    assert expected in answer.json()["message"]


@pytest.mark.parametrize("name", ["savings", "chargeback"])
def test_a_name_that_can_be_any_is_said_to_have_asked_for_nothing(client: TestClient, run: Command, name: str) -> None:
    found = client.get(f"/reports/{name}", params=NOVEMBER | {"by": "user", "user": "amm", "tag": "batch"}).json()
    assert found["unmatched_filters"] == [{"name": "user", "value": "amm"}, {"name": "tag", "value": "batch"}]
    sentence = "Nothing in this report is of the user 'amm': no such request was booked."
    assert sentence in found["basis"]
    done = run(name, "--period", "2026-11", "--user", "amm", "--format", "csv")
    assert (done.exit_code, sentence in done.stderr) == (0, True)


def test_what_was_taken_out_since_may_still_be_asked_for(client: TestClient, services: AdminServices) -> None:
    services.ledger.append([spend_record("old", deployment="retired", key_id="key_old", started_at_ms=START_MS)])
    for query in ({"model": "retired"}, {"key": "key_old"}, {"key": "key_old", "format": "focus"}):
        assert client.get("/reports/savings", params=NOVEMBER | query).status_code == 200
        assert client.get("/reports/savings", params={"period": "2026-10"} | query).status_code == 400


def test_a_team_that_asked_for_nothing_has_an_empty_report(client: TestClient, services: AdminServices) -> None:
    services.directory.create_team("research")
    found = client.get("/reports/savings", params=NOVEMBER | {"by": "team", "team": "research"}).json()
    assert (found["rows"], found["total"]["request_count"]) == ([], 0)
    assert found["unmatched_filters"] == [{"name": "team", "value": "research"}]
    assert client.get("/reports/savings", params=NOVEMBER | {"team": "nobody"}).status_code == 404


def test_a_viewer_is_told_of_the_keys_of_its_own_team_alone(services: AdminServices) -> None:
    services.directory.create_project("support", "support-chat")
    services.directory.create_project("sales", "sales-chat")
    viewer = client_of(services, "viewer", "sales")
    answers = [viewer.get("/reports/savings", params={"project": f"{name}-chat"}) for name in ("support", "nobody")]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert answers[0].json()["message"].replace("support", "nobody") == answers[1].json()["message"]
    assert viewer.get("/reports/savings", params={"project": "sales-chat"}).status_code == 200


@pytest.mark.parametrize("form", ["json", "csv", "html", "parquet"])
@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("savings", {}),
        ("savings", {"by": ["team"]}),
        ("savings", {"by": ["model", "day"], "team": ["support", "sales", "support"], "currency": "CNY"}),
        ("savings", {"team": ["sales", "sales"], "user": "amm"}),
        ("chargeback", {}),
        ("chargeback", {"by": ["project"]}),
        ("utilization", {}),
        ("break-even", {}),
    ],
)
def test_a_report_is_the_same_to_the_byte_whoever_asks_and_wherever_it_goes(
    client: TestClient, run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, query: dict[str, str | list[str]], form: str,
) -> None:  # fmt: skip
    stopped = Clock(wall=lambda: START_MS / 1000 + 86_400)
    monkeypatch.setattr(admin, "SYSTEM_CLOCK", stopped)
    monkeypatch.setattr(admin_reports, "SYSTEM_CLOCK", stopped)
    given = [
        (key, values) for key, values in query.items() for values in ([values] if isinstance(values, str) else values)
    ]
    options = [word for key, value in given for word in (f"--{key}", value)]
    path = tmp_path / f"report.{form}"
    printed = run(name, "--period", "2026-11", *options, "--format", form)
    written = run(name, "--period", "2026-11", *options, "--format", form, "--output", str(path))
    answer = client.get(f"/reports/{name}", params=NOVEMBER | query | {"format": form})
    assert (printed.exit_code, written.exit_code, answer.status_code) == (0, 0, 200), (printed.output, answer.text)
    assert f"the report is at {path}" in written.stderr
    assert answer.headers["content-type"] == CONTENT_TYPES[form]
    assert path.read_bytes() == printed.stdout_bytes
    assert path.read_bytes() == answer.content
    if form == "json" and (name, query) == ("savings", {}):
        assert "by_cause" in answer.json()
    elif form == "json":
        made = answer.json()
        assert made.get("report", name) == name
        assert (made["provenance"]["prices_sha256"] is None) == (name == "utilization"), "no price file is in that"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("chargeback", "--period", "2026-11"), "chargeback-2026-11.txt"),
        (("chargeback", "--period", "2026-11", "--format", "focus"), "focus-2026-11.csv"),
        (("utilization", "--from", "2026-11-01", "--to", "2026-11-15"), "utilization-2026-11-01-to-2026-11-15.txt"),
        (("savings", "--by", "model", "--period", "2026-Q4", "--format", "html"), "savings-by-model-2026-Q4.html"),
        (("savings", "--period", "2026-Q4", "--format", "html"), "savings-2026-Q4.html"),
        # Not as a schedule's, which is by team: neither may take the other's place.
        (("savings", "--period", "2026-Q4", "--format", "csv"), "savings-overview-2026-Q4.csv"),
    ],
)
def test_a_report_in_a_folder_has_a_name_that_can_be_read(
    run: Command, tmp_path: Path, words: tuple[str, ...], name: str
) -> None:
    done = run(*words, "--output", f"{tmp_path}/reports/")
    assert done.exit_code == 0, done.output
    assert [path.name for path in (tmp_path / "reports").iterdir()] == [name]


@pytest.mark.parametrize("name", ["savings", "chargeback", "utilization", "break-even"])
def test_every_report_is_printed(run: Command, name: str) -> None:
    done = run(name, "--period", "2026-11", "--timezone", "UTC", *(["--by", "model"] if name == "savings" else []))
    assert done.exit_code == 0, done.output
    assert "2026-11-01 00:00 to 2026-12-01 00:00 UTC" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("savings",),
        *((name, *by) for name in ("savings", "chargeback") for by in (("--by", "key"), ("--by", "hour", "--details"))),
        ("utilization", "--details"),
        ("break-even", "--details"),
    ],
)
def test_every_number_is_whole_at_every_width(
    run: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def numbers(columns: str) -> Counter[str]:
        monkeypatch.setenv("COLUMNS", columns)
        done = run(*words, "--period", "2026-11")
        assert done.exit_code == 0, done.output
        return Counter(word for word in done.stdout.split() if any(map(str.isdigit, word)))

    whole = numbers("")
    for width in range(40, 201, 20):
        assert not whole - numbers(str(width)), width


def test_what_goes_through_a_pipe_is_as_what_goes_into_a_file(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS")
    words = ("savings", "--by", "hour", "--details", "--period", "2026-11")
    path = tmp_path / "savings.txt"
    assert run(*words, "--output", str(path)).exit_code == 0
    assert run(*words).stdout == path.read_text()
    assert [line[:16] for line in path.read_text().splitlines()[1:4]] == [
        "Hour            ", "2026-11-01T00:00", "2026-11-01T01:00",
    ]  # fmt: skip
    assert run("savings", "--period", "2026-11", "--output", str(path)).exit_code == 0
    assert run("savings", "--period", "2026-11").stdout == path.read_text(), "the overview, too"
    assert "Why" in path.read_text()


@pytest.mark.parametrize("name", ["savings", "chargeback"])
def test_a_price_file_that_is_gone_is_named_and_no_mistake_of_the_callers(
    config: Path, services: AdminServices, run: Command, name: str
) -> None:
    gone = config.parent / "gone.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(PRICES), str(gone)), encoding="utf-8")
    done = run(name, "--period", "2026-11")
    assert (done.exit_code, f"{gone}: cannot be read: No such file" in done.stderr) == (2, True)
    without = replace(services, config=load_config(config))
    for currency in ("USD", "CNY"):
        answer = client_of(without).get(f"/reports/{name}", params=NOVEMBER | {"currency": currency})
        assert (answer.status_code, f"{gone}: cannot be read" in answer.json()["message"]) == (500, True)


def test_an_empty_place_is_no_place(run: Command) -> None:
    done = run("savings", "--period", "2026-11", "--output", "")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--output is empty; name a file, a folder/, s3://bucket/key or webhook" in done.stderr


def test_a_narrowed_overview_names_what_it_is_narrowed_to(run: Command) -> None:
    done = run("savings", "--period", "2026-11", "--model", "small", "--alias", "auto")
    assert "Savings, model small, alias auto" in done.stdout
    assert "hours of machines that nobody used" in " ".join(done.stdout.split())


def test_line_items_are_written_for_other_tools(run: Command, client: TestClient, services: AdminServices) -> None:
    services.directory.create_team("research", "Research & Development")
    services.ledger.append([spend_record("r", team_id="research", started_at_ms=START_MS, deployment="small")])
    for name in ("savings", "chargeback"):
        done = run(name, "--period", "2026-11", "--team", "research", "--format", "focus")
        (row,) = csv.DictReader(io.StringIO(done.stdout))
        assert (row["SubAccountId"], row["SubAccountName"]) == ("research", "Research & Development")
        query = NOVEMBER | {"team": "research", "format": "focus"}
        answer = client.get(f"/reports/{name}", params=query)
        assert answer.text.splitlines() == done.stdout.splitlines()


def test_a_file_without_line_items_is_told_from_one_that_has_some(run: Command) -> None:
    done = run("savings", "--period", "2026-11", "--alias", "gpt-4", "--alias", "auto", "--format", "focus")
    assert "line items" not in done.stderr
    done = run("savings", "--period", "2024", "--format", "focus")
    assert (done.exit_code, "there are no line items in this time" in done.stderr) == (0, True)


def test_details_show_every_column(run: Command) -> None:
    lines = run("savings", "--period", "2026-11", "--by", "team", "--details").stdout.splitlines()
    assert [line.split()[-1] for line in lines if line.startswith("requests ")] == ["2", "1", "0", "0", "3"]
    assert any(line.startswith("retries $ ") for line in lines)
