"""The file of answer lengths: what ships can be used, and what is wrong in another is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.answer_lengths import ALL_ALIKE
from router.answer_lengths import CHARACTERS_PER_TOKEN, AnswerLengthsError, answer_lengths_beside
from router.answer_lengths import load_answer_lengths as load
from router.prices import load_prices

CONFIGS = Path(__file__).parents[2] / "configs"

MINIMAL = """
source: a leaderboard
usual: {characters: 1410, rambles: true}
models:
  small: {characters: 470, rambles: true, also: [small-0613]}
  large: {characters: 940, rambles: false}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "answer_lengths.yaml"


def test_what_ships_is_of_models_that_the_price_file_names() -> None:
    shipped = answer_lengths_beside(CONFIGS / "prices.yaml")
    prices = load_prices(CONFIGS / "prices.yaml")
    assert shipped.of("gpt-4-1106-preview").mean_tokens == pytest.approx(2049 / CHARACTERS_PER_TOKEN)
    assert not shipped.of("gpt-4-1106-preview").rambles
    for recorded, priced in (("mistral-7b-instruct", "mistral-7b"), ("mixtral-8x7b-instruct", "mixtral-8x7b")):
        assert shipped.of(recorded).model == priced
        assert prices.model(priced)


def test_a_file_is_read_by_every_name(path: Path) -> None:
    path.write_text(MINIMAL)
    lengths = load(path)
    assert lengths.of("small-0613") == lengths.of("small")
    assert lengths.of("small").model == "small"
    assert lengths.of("small").mean_tokens == pytest.approx(100)
    assert (lengths.of("large").rambles, lengths.of("other").rambles) == (False, True)
    assert lengths.of("other").mean_tokens == pytest.approx(300)


def test_without_a_file_all_answer_alike(tmp_path: Path) -> None:
    found = answer_lengths_beside(tmp_path / "prices.yaml")
    assert found is ALL_ALIKE
    assert found.of("one") == found.of("another")


@pytest.mark.parametrize(
    ("found", "instead", "part"),
    [
        ("characters: 470", "characters: 0", "models.small.characters: "),
        ("characters: 470", "characters: -3", "models.small.characters: "),
        ("characters: 470", "characters: 4.7", "models.small.characters: "),
        ("characters: 470", 'characters: "470"', "models.small.characters: "),
        ("characters: 470, ", "", "models.small.characters: is missing"),
        ("rambles: false", 'rambles: "no"', "models.large.rambles: "),
        ("rambles: false", "rambles: false, tokens: 3", "models.large.tokens: is not a known key"),
        ("[small-0613]", "[large]", "models.large: the name 'large' is given twice"),
        ("[small-0613]", "[small]", "models.small: the name 'small' is given twice"),
        ("usual: {characters: 1410, rambles: true}\n", "", "usual: is missing"),
        ("source: a leaderboard\n", "", "source: is missing"),
        ("models:", "models: [", "is not YAML"),
        (MINIMAL, "", "(top level)"),
        (MINIMAL, "- 1", "(top level)"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(path: Path, found: str, instead: str, part: str) -> None:
    assert found in MINIMAL
    path.write_text(MINIMAL.replace(found, instead))
    with pytest.raises(AnswerLengthsError) as raised:
        load(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert part in str(raised.value)


def test_a_file_that_is_no_text_or_none_at_all(path: Path) -> None:
    with pytest.raises(AnswerLengthsError, match="cannot be read"):
        load(path)
    path.write_bytes(b"\x00\xff\xfe")
    with pytest.raises(AnswerLengthsError, match=str(path)):
        load(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(AnswerLengthsError, match="cannot be read"):
        answer_lengths_beside(path.with_name("prices.yaml"))
