"""Records are read and made field by field, as their class would have it."""

from __future__ import annotations

import pytest

from classifiers.records import maker, reader, record


@record(kw_only=True)
class Sample:
    size: int
    name: str = "none"


def test_a_reader_takes_fields_in_the_order_asked_for() -> None:
    assert reader("name", "size")(Sample(size=1)) == ("none", 1)
    assert reader("size")(Sample(size=1)) == (1,)


def test_a_maker_makes_what_the_class_makes() -> None:
    made = maker(Sample)({"name": "n", "size": 2, "other": 3})
    assert type(made) is Sample
    assert made == Sample(size=2, name="n")


def test_a_maker_asks_for_every_field() -> None:
    with pytest.raises(KeyError, match="name"):
        maker(Sample)({"size": 1})
