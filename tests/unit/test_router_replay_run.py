"""The same result with any number of workers, and after any interruption."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.replay import checkpoint
from router.replay.batches import part_batches
from router.replay.checkpoint import CheckpointError
from router.replay.forecast import forecast
from router.replay.render import as_json
from router.replay.run import ReplayFailed, Saving, replay
from router.replay.sources import LogError, Position
from router.replay.sums import Sums
from tests.support.logs import NOW_MS, as_csv, as_lines, pair, pairs, plan_for, write
from tests.support.server import ROOT

BLOCK_BYTES = 4_096
SECRET = "swordfish"

DYING = """
import os, signal, sys
from pathlib import Path
from router.replay.run import Saving, replay
from tests.support.logs import plan_for

def told(position, read_bytes, rows):
    told.blocks += 1
    if told.blocks == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

told.blocks = 0
saving = Saving(Path(sys.argv[1]), Path(sys.argv[2]), every_blocks=2)
if __name__ == "__main__":
    replay(sys.argv[5:], plan_for(), int(sys.argv[4]), saving, told, 4096)
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three files of several formats, with bad rows among them."""
    folder = tmp_path_factory.mktemp("logs")
    records: list[Any] = pairs(120)
    records[30] = {"hello": SECRET}
    records[31] = pair(f"Say {SECRET}.", cost=SECRET)
    records[60] = pair(f"Say {SECRET}.", model="nobody-knows-13b")
    table = [
        {"model": "gpt-4", "prompt": f"Say hello\nto {n}.", "input_tokens": 9, "output_tokens": n} for n in range(80)
    ]
    return [
        write(folder / "a.jsonl", as_lines(records)),
        write(folder / "b.jsonl.gz", gzip.compress(as_lines([*pairs(60, seed=3), "no record"]))),
        write(folder / "c.csv", as_csv(table)),
    ]


def result(paths: list[str], workers: int = 1, saving: Saving = Saving(), **more: Any) -> bytes:  # noqa: B008
    plan = plan_for()
    sums = replay(paths, plan, workers, saving, block_bytes=BLOCK_BYTES, **more)
    return orjson.dumps(as_json(forecast(sums, plan, tuple(paths))))


@pytest.fixture(scope="module")
def bad_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Listed by the replay that `whole` is of."""
    return tmp_path_factory.mktemp("whole") / "bad"


@pytest.fixture(scope="module")
def whole(logs: list[str], bad_rows: Path) -> bytes:
    return result(logs, saving=Saving(bad_rows=bad_rows))


def test_every_row_is_accounted_for(whole: bytes) -> None:
    found = json.loads(whole)
    assert found["rows"] == 120 + 61 + 80
    assert {bad["kind"]: bad["count"] for bad in found["bad_rows"]} == {
        "bad cost": 1, "broken record": 1, "unknown format": 1, "unknown model": 1,
    }  # fmt: skip
    assert found["judged"] == found["rows"] - 4
    where = sorted((Path(bad["first"][0]["file"]).name, bad["first"][0]["line"]) for bad in found["bad_rows"])
    assert where == [("a.jsonl", 31), ("a.jsonl", 32), ("a.jsonl", 61), ("b.jsonl.gz", 61)]


def test_two_workers_find_what_one_does(logs: list[str], whole: bytes) -> None:
    assert result(logs, workers=2) == whole


def test_the_size_of_blocks_changes_nothing(logs: list[str], whole: bytes) -> None:
    plan = plan_for()
    assert orjson.dumps(as_json(forecast(replay(logs, plan), plan, tuple(logs)))) == whole


class Interrupted:
    """Ctrl-C after so many blocks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, position: Position, read_bytes: int, rows: int) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupted_replay_goes_on(logs: list[str], whole: bytes, tmp_path: Path) -> None:
    saving = Saving(tmp_path / "state", tmp_path / "bad")
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            result(logs, saving=saving, progress=Interrupted(4))
    told: list[Position] = []
    assert result(logs, saving=saving, progress=lambda position, *_: told.append(position)) == whole
    assert told[0] != Position()
    assert len((tmp_path / "bad").read_bytes().splitlines()) == 4
    assert result(logs, saving=saving, progress=Interrupted(1)) == whole  # it is done: nothing is read again


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_replay_goes_on(logs: list[str], whole: bytes, bad_rows: Path, tmp_path: Path, workers: int) -> None:
    """One worker does, however many there were: that two find what one does is tried above."""
    state, bad = tmp_path / "state", tmp_path / "bad"
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(state), str(bad), "7", str(workers), *logs]
    died = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    kept = checkpoint.read(state)
    assert kept is not None
    assert kept.sums["position"]["offset"] > 0
    assert result(logs, saving=Saving(state, bad)) == whole
    assert bad.read_bytes() == bad_rows.read_bytes()


def test_the_time_of_a_replay_is_that_of_its_beginning(tmp_path: Path) -> None:
    """What lay in the future then must not become a good row tomorrow."""
    path = write(tmp_path / "log", as_lines([*pairs(60), pair("Hi.", created_at=NOW_MS // 1_000 + 10_000)]))
    saving = Saving(tmp_path / "state")
    with pytest.raises(KeyboardInterrupt):
        replay([path], plan_for(), saving=saving, progress=Interrupted(1), block_bytes=BLOCK_BYTES)
    later = replay([path], plan_for(now_ms=NOW_MS + 10**9), saving=saving, block_bytes=BLOCK_BYTES)
    assert dict(later.bad) == {"clock in the future": 1}


def test_a_checkpoint_of_other_logs_or_prices_is_refused(logs: list[str], tmp_path: Path) -> None:
    state = tmp_path / "state"
    path = write(tmp_path / "log", as_lines(pairs(10)))
    replay([path], plan_for(), saving=Saving(state))
    with pytest.raises(CheckpointError, match="other logs"):
        replay([*logs], plan_for(), saving=Saving(state))
    with pytest.raises(CheckpointError, match="another configuration"):
        replay([path], plan_for([0.9]), saving=Saving(state))
    lines = as_lines(pairs(10))
    for changed in (as_lines(pairs(11)), lines[:-9] + b"#" + lines[-8:]):
        write(tmp_path / "log", changed)
        with pytest.raises(CheckpointError, match="changed since"):
            replay([path], plan_for(), saving=Saving(state))
    state.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        replay([path], plan_for(), saving=Saving(state))
    with pytest.raises(CheckpointError, match="stream"):
        replay(["-"], plan_for(), saving=Saving(tmp_path / "another"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_became_of_a_checkpoint_is_read_or_refused(data: st.DataObject, tmp_path: Path) -> None:
    state = tmp_path / "state"
    if not state.exists():
        checkpoint.write(state, checkpoint.Identity((), "plan"), Sums(plan_for()), NOW_MS, 0)
        (tmp_path / "good").write_bytes(state.read_bytes())
    content = bytearray((tmp_path / "good").read_bytes())
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    for _ in range(data.draw(st.integers(0, 9)) if content else 0):
        content[-data.draw(st.integers(1, min(len(content), 3_000)))] = data.draw(st.integers(0, 255))
    state.write_bytes(content)
    with suppress(CheckpointError):
        checkpoint.read(state)


def test_a_list_of_bad_rows_that_would_lack_some_is_refused(logs: list[str], tmp_path: Path) -> None:
    begun = Saving(tmp_path / "state", tmp_path / "bad")
    with pytest.raises(KeyboardInterrupt):
        result(logs, saving=begun, progress=Interrupted(12))
    assert (tmp_path / "bad").read_bytes()
    (tmp_path / "bad").unlink()
    with pytest.raises(CheckpointError, match="lacks the bad rows"):
        result(logs, saving=begun)
    assert not (tmp_path / "bad").exists()
    result(logs, saving=Saving(tmp_path / "state"))
    with pytest.raises(CheckpointError, match="lacks the bad rows"):
        result(logs, saving=begun)


def test_a_checkpoint_that_cannot_be_written_is_told_before_the_work(logs: list[str], tmp_path: Path) -> None:
    told: list[Position] = []
    with pytest.raises(ReplayFailed, match="cannot be written"):
        result(logs, saving=Saving(tmp_path / "none" / "state"), progress=lambda position, *_: told.append(position))
    assert told == []


def test_no_text_of_a_prompt_is_written_anywhere(tmp_path: Path) -> None:
    records = [pair(f"Say {SECRET} {n}.") for n in range(5)] + [pair("x", cost=SECRET), {SECRET: 1}, SECRET]
    path = write(tmp_path / "log", as_lines(records))
    state, bad = tmp_path / "state", tmp_path / "bad"
    written = result([path], saving=Saving(state, bad)) + state.read_bytes() + bad.read_bytes()
    assert len(bad.read_bytes().splitlines()) == 3
    assert SECRET.encode() not in written


def test_a_list_that_cannot_be_written_is_told(logs: list[str], tmp_path: Path) -> None:
    with pytest.raises(ReplayFailed, match="cannot be written"):
        result(logs, saving=Saving(bad_rows=tmp_path))


def batch(tmp_path: Path, ids: list[str]) -> list[str]:
    asked = [{"custom_id": i, "method": "POST", "url": "/v1/chat/completions", "body": pair(f"Say {i}.")["request"]}
             for i in ids]  # fmt: skip
    answered = [
        {"custom_id": i, "response": {"status_code": 200, "body": pair("x")["response"]}} for i in reversed(ids)
    ]
    return [write(tmp_path / "in.jsonl", as_lines(asked)), write(tmp_path / "out.jsonl", as_lines(answered))]


def test_a_batchs_answers_find_their_requests(tmp_path: Path) -> None:
    paths, inputs = part_batches(batch(tmp_path, [f"r{n}" for n in range(30)]))
    assert len(paths) == 1
    plan = plan_for(batches=inputs)
    one, two = (replay(paths, plan, workers) for workers in (1, 2))
    assert asdict(one.counts)["without_text"] == 0
    assert int(one.base["judged"].sum()) == int(two.base["judged"].sum()) == 30


def test_ids_that_two_batches_share_tell_nothing(tmp_path: Path) -> None:
    """Which of the two was answered is not ours to guess."""
    paths, inputs = part_batches(batch(tmp_path, ["a", "a", "b"]))
    sums = replay(paths, plan_for(batches=inputs))
    assert (sums.counts.without_text, int(sums.base["judged"].sum())) == (2, 1)


def test_requests_of_batches_alone_are_no_log(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="answers"):
        part_batches(batch(tmp_path, ["a"])[:1])
