"""A circuit opens after failures in a row, and one probe decides whether it closes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from router.pipeline.circuit import Circuit


def opened(at_s: float = 100.0) -> Circuit:
    circuit = Circuit(failures=2, open_s=10)
    circuit.failed(at_s)
    circuit.failed(at_s)
    return circuit


def test_it_is_closed_until_enough_failures_in_a_row() -> None:
    circuit = Circuit(failures=2, open_s=10)
    circuit.failed(1)
    circuit.succeeded()
    circuit.failed(2)
    assert (circuit.state(2), circuit.admits(2)) == ("closed", True)
    circuit.failed(3)
    assert (circuit.state(3), circuit.admits(3)) == ("open", False)


def test_after_a_while_one_probe_goes_through() -> None:
    circuit = opened()
    assert (circuit.state(109.9), circuit.admits(109.9)) == ("open", False)
    assert (circuit.state(110), circuit.admits(110)) == ("half_open", True)
    assert circuit.admits(110)  # asking changes nothing
    circuit.begin(110)
    assert not circuit.admits(111)


def test_a_probe_that_succeeds_closes_it() -> None:
    circuit = opened()
    circuit.begin(110)
    circuit.succeeded()
    assert (circuit.state(110), circuit.admits(110)) == ("closed", True)
    circuit.failed(111)
    assert circuit.admits(111)  # counting begins anew


def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    circuit = opened()
    circuit.begin(110)
    circuit.failed(112)
    assert (circuit.state(121.9), circuit.state(122)) == ("open", "half_open")
    assert circuit.admits(122)


def test_a_probe_that_never_comes_back_does_not_block_for_ever() -> None:
    circuit = opened()
    circuit.begin(110)
    assert not circuit.admits(119.9)
    assert circuit.admits(120)


@given(st.lists(st.tuples(st.sampled_from(["begin", "succeed", "fail"]), st.floats(0, 30))))
def test_whatever_happens_it_lets_something_through_in_time(steps: list[tuple[str, float]]) -> None:
    circuit, now_s = Circuit(failures=3, open_s=10), 0.0
    for step, wait_s in steps:
        now_s += wait_s
        if step == "begin":
            circuit.begin(now_s)
        elif step == "succeed":
            circuit.succeeded()
        else:
            circuit.failed(now_s)
        if circuit.state(now_s) != "half_open":
            assert circuit.admits(now_s) == (circuit.state(now_s) == "closed")
    assert circuit.admits(now_s + 20)
