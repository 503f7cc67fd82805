"""A report arrives whole, signed, under its name; and what keeps it from that is said without a secret."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.alerts.events import SIGNATURE_HEADER
from router.config_reports import ReportsConfig, ReportWebhookConfig, S3Config
from router.delivery.deliver import NAME_HEADER, deliver
from router.errors import ConfigError, DeliveryFailed
from tests.support.receiver import Receiver, receiver_server
from tests.support.s3_server import BUCKET, S3Server, s3_server
from tests.support.upstream import hang, page, reset, status

CONTENT = "team,saved\nsüpport,1\n".encode()
CSV = "text/csv; charset=utf-8"


# files


def test_a_report_is_written_with_the_folders_above_it(tmp_path: Path) -> None:
    where = deliver(f"{tmp_path}/a/b/", "savings.csv", CONTENT, CSV)
    assert where == f"{tmp_path}/a/b/savings.csv"
    assert Path(where).read_bytes() == CONTENT
    assert stat.S_IMODE(Path(where).stat().st_mode) == 0o644


def test_a_path_is_taken_as_it_is_and_a_folder_that_exists_is_a_folder(tmp_path: Path) -> None:
    assert deliver(f"{tmp_path}/out.csv", "savings.csv", CONTENT, CSV) == f"{tmp_path}/out.csv"
    assert deliver(str(tmp_path), "savings.csv", CONTENT, CSV) == f"{tmp_path}/savings.csv"


def test_an_address_is_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="a URL to post to"):
        deliver("https://example.com/report", "savings.csv", b"1", "text/csv")
    assert list(tmp_path.iterdir()) == []


def test_a_repeat_replaces_and_readers_keep_what_they_have_opened(tmp_path: Path) -> None:
    path = tmp_path / "savings.csv"
    deliver(str(path), "", b"before", CSV)
    with path.open("rb") as opened:
        deliver(str(path), "", b"after", CSV)
        assert opened.read() == b"before"
    assert path.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["savings.csv"]


def test_what_cannot_be_written_leaves_the_old_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "savings.csv"
    deliver(str(path), "", b"before", CSV)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeliveryFailed, match="No space left") as raised:
        deliver(str(path), "", b"after", CSV)
    assert raised.value.retryable
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["savings.csv"]


def test_a_link_is_followed_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    shelf, here = tmp_path / "shelf", tmp_path / "here"
    shelf.mkdir()
    here.mkdir()
    for name in ("savings.csv", "not-there-yet.csv"):
        (here / name).symlink_to(Path("..", "shelf", name))
    (shelf / "savings.csv").write_bytes(b"before")
    with (shelf / "savings.csv").open("rb") as opened:
        for name in ("savings.csv", "not-there-yet.csv"):
            assert deliver(f"{here}/{name}", "", b"after", CSV) == f"{here}/{name}"
            assert ((here / name).is_symlink(), (shelf / name).read_bytes()) == (True, b"after")
        assert opened.read() == b"before"
    assert sorted(os.listdir(shelf)) == ["not-there-yet.csv", "savings.csv"]


def test_a_link_that_leads_nowhere_is_said(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(DeliveryFailed, match="round: Too many levels of symbolic links"):
        deliver(f"{tmp_path}/round", "", b"1", CSV)


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path, linked: bool) -> None:
    pipe, place = tmp_path / "pipe", tmp_path / ("link" if linked else "pipe")
    os.mkfifo(pipe)
    if linked:
        place.symlink_to("pipe")
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as reader:  # neither end waits
        deliver(str(place), "", CONTENT, CSV)
        assert stat.S_ISFIFO(pipe.stat().st_mode)
        assert reader.read(len(CONTENT) + 1) == CONTENT
    assert place.is_symlink() == linked
    assert sorted(os.listdir(tmp_path)) == sorted({"pipe", place.name})


def test_what_a_shell_sent_elsewhere_is_added_to(tmp_path: Path) -> None:
    """A link to the descriptor, as /dev/stdout is one: that itself is not for tests to lose."""
    link, log = tmp_path / "stdout", tmp_path / "log"
    link.symlink_to("/proc/self/fd/1")
    log.write_bytes(b"before\n")
    code = "import sys; from router.delivery.deliver import deliver; deliver(sys.argv[1], '', b'report', 'text/csv')"
    piped = subprocess.run([sys.executable, "-c", code, str(link)], stdout=subprocess.PIPE, check=True)
    assert piped.stdout == b"report"
    with log.open("ab") as appended:
        subprocess.run([sys.executable, "-c", code, str(link)], stdout=appended, check=True)
    assert log.read_bytes() == b"before\nreport"
    assert (link.is_symlink(), sorted(os.listdir(tmp_path))) == (True, ["log", "stdout"])


@pytest.mark.parametrize("place", ["taken/", "taken/savings.csv", "taken/a/b/", "link/"])
def test_what_should_be_a_folder_and_is_none_is_named(tmp_path: Path, place: str) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"a file")
    (tmp_path / "link").symlink_to("taken")
    with pytest.raises(DeliveryFailed, match=f": {taken} is no folder$") as raised:
        deliver(f"{tmp_path}/{place}", "savings.csv", b"1", CSV)
    assert raised.value.retryable
    assert taken.read_bytes() == b"a file"


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "savings.csv").mkdir()
    with pytest.raises(DeliveryFailed, match=r": Is a directory$"):
        deliver(f"{tmp_path}/", "savings.csv", b"1", CSV)


# stores that speak S3


@pytest.fixture(scope="module")
def store() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def s3(store: S3Server, secret: str | None = None, **settings: object) -> tuple[ReportsConfig, dict[str, str]]:
    values = {"endpoint_url": store.url, "path_style": True, "access_key_env": "ID", "secret_key_env": "SECRET"}
    environ = {"ID": store.access_key, "SECRET": secret or store.secret_key}
    return ReportsConfig(s3=S3Config.model_validate(values | settings)), environ


def test_a_report_lies_in_the_bucket_under_its_prefix(store: S3Server) -> None:
    config, environ = s3(store)
    where = deliver(f"s3://{BUCKET}/finance/2026/", "Ersparnis ü.csv", CONTENT, CSV, config=config, environ=environ)
    assert where == f"s3://{BUCKET}/finance/2026/Ersparnis ü.csv"
    deliver(f"s3://{BUCKET}", "top.csv", b"", CSV, config=config, environ=environ)
    deliver(f"s3://{BUCKET}/by/hand.csv", "unused", b"1", CSV, config=config, environ=environ)
    assert store.objects() == {
        "finance/2026/Ersparnis ü.csv": (CONTENT, CSV),
        "top.csv": (b"", CSV),
        "by/hand.csv": (b"1", CSV),
    }


def test_a_signature_with_another_secret_is_refused_for_good(store: S3Server) -> None:
    config, environ = s3(store, secret="wrong" * 8)
    with pytest.raises(DeliveryFailed, match="403 SignatureDoesNotMatch") as raised:
        deliver(f"s3://{BUCKET}/x.csv", "", CONTENT, CSV, config=config, environ=environ)
    assert not raised.value.retryable
    assert "wrongwrong" not in str(raised.value)


def test_a_bucket_that_is_not_there_is_said(store: S3Server) -> None:
    config, environ = s3(store)
    with pytest.raises(DeliveryFailed, match=r"s3://no-such-bucket/x\.csv: 404 NoSuchBucket") as raised:
        deliver("s3://no-such-bucket/x.csv", "", CONTENT, CSV, config=config, environ=environ)
    assert not raised.value.retryable


def test_without_names_of_variables_credentials_are_those_of_aws(
    store: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    config = ReportsConfig(s3=S3Config(endpoint_url=store.url, path_style=True))
    deliver(f"s3://{BUCKET}/role.csv", "", b"2", CSV, config=config)
    assert store.objects()["role.csv"] == (b"2", CSV)


def test_a_store_that_is_away_is_worth_another_try() -> None:
    with receiver_server() as receiver:
        receiver.at("/bucket-x/x.csv", status(503), reset())
        config, environ = s3(S3Server(receiver.url(""), "id", "secret"))
        for _ in range(2):
            with pytest.raises(DeliveryFailed) as raised:
                deliver("s3://bucket-x/x.csv", "", CONTENT, CSV, config=config, environ=environ)
            assert raised.value.retryable


def test_a_store_that_never_answers_is_not_waited_for_without_end() -> None:
    with receiver_server() as receiver:
        receiver.at("/bucket-x/x.csv", hang())
        config, environ = s3(S3Server(receiver.url(""), "id", "secret"), timeout_seconds=0.2)
        with pytest.raises(DeliveryFailed, match="timeout") as raised:
            deliver("s3://bucket-x/x.csv", "", CONTENT, CSV, config=config, environ=environ)
        assert raised.value.retryable
        assert len(receiver.posted("/bucket-x/x.csv")) == 1, "the scheduler tries again, and nobody else"


def test_the_signature_holds_the_body_even_where_the_line_is_not_encrypted() -> None:
    with receiver_server() as receiver:
        receiver.at("/bucket-x/x.csv", page(200, ""))
        config, environ = s3(S3Server(receiver.url(""), "id", "secret"))
        deliver("s3://bucket-x/x.csv", "", CONTENT, CSV, config=config, environ=environ)
        (request,) = receiver.posted("/bucket-x/x.csv")
        assert request.raw == CONTENT
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(CONTENT).hexdigest()
        assert "x-amz-content-sha256" in request.headers["authorization"]


@pytest.mark.parametrize(("environ", "gap"), [({}, "ID is not set"), ({"ID": "a"}, "SECRET is not set")])
def test_a_store_without_its_credentials_is_named(environ: dict[str, str], gap: str) -> None:
    config = ReportsConfig(s3=S3Config(access_key_env="ID", secret_key_env="SECRET"))
    with pytest.raises(ConfigError, match=f"reports.s3: {gap}"):
        deliver("s3://bucket/x", "", CONTENT, CSV, config=config, environ=environ)
    with pytest.raises(ConfigError, match="names no bucket"):
        deliver("s3:///x", "", CONTENT, CSV, config=config, environ=environ)


# webhooks


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiver_server() as server:
        yield server


def posting(
    url: str, secret: str | None = "s3cret", timeout_seconds: float = 60
) -> tuple[ReportsConfig, dict[str, str]]:
    webhook = ReportWebhookConfig(
        url_env="URL", secret_env="SECRET" if secret else None, timeout_seconds=timeout_seconds
    )
    return ReportsConfig(webhook=webhook), {"URL": url, "SECRET": secret or ""}


def test_a_post_is_the_report_and_its_signature_proves_whose_it_is(receiver: Receiver) -> None:
    config, environ = posting(receiver.at("/signed", page(200, "ok")))
    deliver("webhook", "savings-2026-11.csv", CONTENT, CSV, config=config, environ=environ)
    (request,) = receiver.posted("/signed")
    assert (request.method, request.raw) == ("POST", CONTENT)
    assert (request.headers["content-type"], request.headers[NAME_HEADER]) == (CSV, "savings-2026-11.csv")
    time, _, digest = request.headers[SIGNATURE_HEADER].removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(b"s3cret", time.encode() + b"." + CONTENT, hashlib.sha256).hexdigest()


@pytest.mark.parametrize(("answer", "retryable"), [(500, True), (429, True), (404, False), (301, False)])
def test_a_refusal_names_the_host_alone(receiver: Receiver, answer: int, retryable: bool) -> None:
    config, environ = posting(receiver.at(f"/secret-path-{answer}", page(answer, "no")))
    with pytest.raises(DeliveryFailed) as raised:
        deliver("webhook", "x.csv", CONTENT, CSV, config=config, environ=environ)
    assert raised.value.retryable is retryable
    assert f"(127.0.0.1) did not take x.csv: {answer}" in str(raised.value)
    assert "secret-path" not in str(raised.value)


def test_a_webhook_that_never_answers_is_not_waited_for_without_end(receiver: Receiver) -> None:
    config, environ = posting(receiver.at("/silent", hang()), timeout_seconds=0.2)
    with pytest.raises(DeliveryFailed, match=r"no answer within 0\.2 s") as raised:
        deliver("webhook", "x.csv", CONTENT, CSV, config=config, environ=environ)
    assert raised.value.retryable


@pytest.mark.parametrize(
    ("config", "environ", "gap"),
    [
        (ReportsConfig(), {}, "url_env is not given"),
        (posting("")[0], {}, "URL must hold a URL that begins with https:// or http://"),
        (posting("")[0], {"URL": "https://a"}, "SECRET is not set"),
    ],
)
def test_a_webhook_without_its_variables_is_named(config: ReportsConfig, environ: dict[str, str], gap: str) -> None:
    with pytest.raises(ConfigError, match=f"reports.webhook: {gap}; set it"):
        deliver("webhook", "x.csv", CONTENT, CSV, config=config, environ=environ)
