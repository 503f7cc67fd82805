"""The price file and litellm's map -> `ModelInfo`: exact, dated, and refused with the place and the reason."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.money import format_usd
from policies.pricing import cost_nusd
from policies.usage import TokenUsage
from router.prices import (
    UNDATED,
    PriceBook,
    PriceFileError,
    UnknownCurrency,
    UnknownModel,
    load_litellm_map,
    load_prices,
)
from router.yaml_file import read_yaml

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "configs" / "prices.yaml"

MINIMAL = """
models:
  small:
    publisher: Someone
    context_window: 4096
    max_output_tokens: 1024
    tokenizer: null
    capabilities: [tools]
    prices:
      - effective_from: 2024-01-25
        input: "0.15"
        output: "0.6"
        source: a page
"""


@pytest.fixture(scope="module")
def shipped() -> PriceBook:
    return load_prices(SHIPPED)


def load_text(folder: Path, text: str) -> PriceBook:
    path = folder / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    return load_prices(path)


# ---- the shipped file ----------------------------------------------------------------------------

# fmt: off
NAMED_IN_THE_ISSUE = (
    "gpt-3.5-turbo", "gpt-4", "gpt-4-32k", "gpt-4-turbo", "gpt-4-1106-preview", "gpt-4o", "gpt-4o-mini",
    "text-davinci-003", "mistral-7b", "open-mistral-7b", "mixtral-8x7b", "mistral-small", "mistral-medium",
    "mistral-large", "open-mistral-nemo", "phi-2", "phi-3-mini", "llama-2-7b", "llama-2-13b", "llama-2-70b",
    "gemini-1.5-flash", "gemini-1.5-pro", "ernie-4.0", "ernie-3.5", "ernie-speed", "ernie-lite",
    "doubao-pro-4k", "doubao-pro-32k", "doubao-pro-128k", "flan-ul2",
)
# fmt: on


@pytest.mark.parametrize("name", NAMED_IN_THE_ISSUE)
def test_every_named_model_has_sourced_prices(shipped: PriceBook, name: str) -> None:
    info = shipped.model(name)
    assert info.origin == "prices.yaml"
    assert all(price.source for price in info.prices.prices)
    assert info.max_output_tokens <= info.context_window


@pytest.mark.parametrize(
    ("name", "day", "dollars_per_1k"),
    [
        ("gpt-3.5-turbo", date(2023, 12, 31), ("0.0015", "0.002")),
        ("gpt-3.5-turbo", date(2024, 1, 25), ("0.0005", "0.0015")),
        ("gpt-4", date(2024, 1, 1), ("0.03", "0.06")),
        ("gpt-4o", date(2024, 10, 1), ("0.005", "0.015")),
        ("gpt-4o", date(2024, 10, 2), ("0.0025", "0.01")),
        ("gpt-4o-mini", date(2026, 1, 1), ("0.00015", "0.0006")),
        ("text-davinci-003", date(2023, 1, 1), ("0.02", "0.02")),
        ("mistral-medium", date(2024, 3, 1), ("0.0027", "0.0081")),
        ("ernie-lite", date(2026, 1, 1), ("0.00", "0.00")),
    ],
)
def test_published_prices(shipped: PriceBook, name: str, day: date, dollars_per_1k: tuple[str, str]) -> None:
    price = shipped.model(name).prices.at(day)
    found = price.input_nusd_per_mtok // 1000, price.output_nusd_per_mtok // 1000
    assert tuple(map(format_usd, found)) == dollars_per_1k


@pytest.mark.parametrize(("name", "dollars"), [("gpt-4", "499.01"), ("gpt-3.5-turbo", "23.76"), ("mistral-7b", "2.67")])
def test_the_field_run_costs_what_was_published(shipped: PriceBook, name: str, dollars: str) -> None:
    """14,253,584 prompt and 1,190,095 output tokens: 40 minutes of one A100, or of the other two's money."""
    usage = TokenUsage(input_tokens=14_253_584, output_tokens=1_190_095)
    assert format_usd(cost_nusd(usage, shipped.model(name).prices.prices[0]), decimals=2) == dollars


def test_mistral_medium_is_27_percent_of_gpt_4_turbo(shipped: PriceBook) -> None:
    medium, turbo = (shipped.model(name).prices.prices[0] for name in ("mistral-medium", "gpt-4-turbo"))
    assert Fraction(medium.input_nusd_per_mtok, turbo.input_nusd_per_mtok) == Fraction(27, 100)
    assert Fraction(medium.output_nusd_per_mtok, turbo.output_nusd_per_mtok) == Fraction(27, 100)


def test_cached_input_is_never_dearer_than_input(shipped: PriceBook) -> None:
    for name in shipped._models:
        for price in shipped.model(name).prices.prices:
            assert (price.cached_input_nusd_per_mtok or 0) <= price.input_nusd_per_mtok, name


@pytest.mark.parametrize(
    ("name", "image_tokens"),
    [
        ("gpt-4o", 1_445),
        ("gpt-4o-mini", 48_169),
        ("gpt-4-turbo", 1_445),
        ("gemini-1.5-pro", 258),
        ("mistral-7b", 16_384),
    ],
)
def test_an_image_comes_to_at_most_what_its_model_says(shipped: PriceBook, name: str, image_tokens: int) -> None:
    assert shipped.model(name).image_tokens == image_tokens


def test_every_model_that_takes_images_says_what_one_comes_to() -> None:
    for name, entry in read_yaml(SHIPPED)["models"].items():
        assert ("images" in entry["capabilities"]) == ("image_tokens" in entry) == ("image_source" in entry), name


@pytest.mark.parametrize(
    ("name", "image_tokens"),
    [
        ("azure/gpt-4o-mini-2024-07-18", 48_169),
        ("gpt-4o-2024-08-06", 1_445),
        ("gpt-4.1-mini", 2_489),
        ("gpt-4.1", 1_445),
        ("gemini/gemini-2.5-pro", 16_384),
    ],
)
def test_litellms_models_are_known_by_their_family(name: str, image_tokens: int) -> None:
    assert load_litellm_map()[name].image_tokens == image_tokens


@pytest.mark.parametrize(
    ("name", "tokens", "batch", "dollars"),
    [
        ("gemini-1.5-pro", 128_000, False, "0.16"),
        ("gemini-1.5-pro", 128_001, False, "0.3200025"),
        ("gpt-4o", 100_000, False, "0.25"),
        ("gpt-4o", 100_000, True, "0.125"),
        ("gpt-4", 8_000, True, "0.24"),
    ],
)
def test_long_prompts_and_batches_cost_what_their_vendors_say(
    shipped: PriceBook, name: str, tokens: int, batch: bool, dollars: str
) -> None:
    price = shipped.model(name).prices.at(date(2026, 1, 1))
    assert format_usd(cost_nusd(TokenUsage(tokens, 0), price, batch)) == dollars


# ---- tiers, batches, writes to the cache ---------------------------------------------------------

TIERED = MINIMAL.replace(
    '        output: "0.6"\n',
    """\
        output: "0.6"
        cached_input: "0.05"
        cache_write: "0.2"
        above:
          - {input_tokens: 1000, input: "0.3", output: "0.9", cached_input: "0.1"}
          - {input_tokens: 2000, input: "0.5", output: "0.8", cache_write: "0.7"}
        batch_share: "0.25"
""",
)


def test_tiers_batches_and_writes_to_the_cache_are_read(tmp_path: Path) -> None:
    price = load_text(tmp_path, TIERED).model("small").prices.prices[0]
    found = [
        (
            rates.above_input_tokens,
            rates.input_nusd_per_mtok,
            rates.output_nusd_per_mtok,
            rates.cached_input_nusd_per_mtok,
            rates.cache_write_nusd_per_mtok,
        )
        for rates in (price, *price.tiers)
    ]
    assert found == [
        (0, 150_000_000, 600_000_000, 50_000_000, 200_000_000),
        (1000, 300_000_000, 900_000_000, 100_000_000, None),
        (2000, 500_000_000, 800_000_000, None, 700_000_000),
    ]
    assert price.batch is not None
    batches = [(rates.input_nusd_per_mtok, rates.output_nusd_per_mtok) for rates in (price.batch, *price.batch.tiers)]
    assert batches == [(37_500_000, 150_000_000), (75_000_000, 225_000_000), (125_000_000, 200_000_000)]
    assert price.batch.cached_input_nusd_per_mtok is None


def test_tiers_are_in_the_currency_of_their_price(tmp_path: Path) -> None:
    tiered = 'output: "240", above: [{input_tokens: 100, input: "160", output: "320"}], batch_share: "0.5",'
    price = load_text(tmp_path, YUAN.replace('output: "240",', tiered)).model("m").prices.prices[0]
    assert price.tiers[0].input_nusd_per_mtok == 20_000_000_000
    assert price.batch is not None and price.batch.tiers[0].output_nusd_per_mtok == 20_000_000_000


# ---- currencies ----------------------------------------------------------------------------------

YUAN = """
rates:
  CNY:
    - {effective_from: 2023-01-01, units_per_usd: "8", source: a bank}
    - {effective_from: 2024-01-01, units_per_usd: "7", source: a bank}
    - {effective_from: 2025-01-01, units_per_usd: "6", source: a bank}
models:
  m:
    publisher: Someone
    context_window: 8192
    max_output_tokens: 2048
    tokenizer: null
    capabilities: []
    prices:
      - {effective_from: 2023-10-17, currency: CNY, input: "120", output: "240", source: a page}
      - {effective_from: 2024-06-01, currency: CNY, input: "1", output: "2", cached_input: "0.5", source: a page}
      - {effective_from: 2024-09-01, input: "3", output: "4", source: a page}
"""


def test_a_price_changes_with_the_price_list_and_with_the_rate(tmp_path: Path) -> None:
    prices = load_text(tmp_path, YUAN).model("m").prices.prices
    assert [(price.effective_from.isoformat(), price.input_nusd_per_mtok) for price in prices] == [
        ("2023-10-17", 15_000_000_000),
        ("2024-01-01", 17_142_857_143),  # 120/7 dollars, the nearest nano-dollar
        ("2024-06-01", 142_857_143),
        ("2024-09-01", 3_000_000_000),
    ]
    assert prices[2].cached_input_nusd_per_mtok == 71_428_571
    assert "CNY 7 for 1 USD" in prices[2].source
    assert "CNY" not in prices[3].source


def test_a_price_before_the_first_rate_is_refused(tmp_path: Path) -> None:
    text = YUAN.replace("2023-10-17", "2022-12-31")
    with pytest.raises(PriceFileError, match=r"models\.m\.prices: found a price in CNY from 2022-12-31; rates\.CNY"):
        load_text(tmp_path, text)


def test_a_currency_without_rates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"found a price in EUR .* rates\.EUR must hold a rate"):
        load_text(tmp_path, MINIMAL.replace('input: "0.15"', 'currency: EUR\n        input: "0.15"'))


def test_rates_of_a_currency_that_no_price_uses_must_ascend_too(tmp_path: Path) -> None:
    rates = """
rates:
  EUR:
    - {effective_from: 2024-01-01, units_per_usd: "0.9", source: a bank}
    - {effective_from: 2023-01-01, units_per_usd: "0.8", source: a bank}
"""
    with pytest.raises(PriceFileError, match=r"rates\.EUR\.1\.effective_from: found 2023-01-01 after 2024-01-01"):
        load_text(tmp_path, rates + MINIMAL)


def test_a_rate_is_the_one_in_force_on_the_day(tmp_path: Path) -> None:
    book = load_text(tmp_path, YUAN)
    days = (date(2023, 1, 1), date(2023, 12, 31), date(2024, 1, 1), date(2030, 1, 1))
    assert [book.rate_at("CNY", day) for day in days] == [8, 8, 7, 6]
    assert book.rate_at("USD", date(1970, 1, 1)) == 1
    assert [rate.source for rate in book.rates["CNY"]] == ["a bank"] * 3


@pytest.mark.parametrize(
    ("currency", "message"),
    [
        ("EUR", r"'EUR' on 2022-12-31: it has none; known are USD, CNY; add it to `rates` in prices\.yaml"),
        ("CNY", r"'CNY' on 2022-12-31: its first rate begins on 2023-01-01; known are USD, CNY"),
    ],
)
def test_a_currency_without_a_rate_on_the_day_is_refused(tmp_path: Path, currency: str, message: str) -> None:
    with pytest.raises(UnknownCurrency, match=message):
        load_text(tmp_path, YUAN).rate_at(currency, date(2022, 12, 31))


# ---- exactness -----------------------------------------------------------------------------------


@given(nusd=st.integers(min_value=0, max_value=10**15))
def test_amounts_never_pass_through_a_float(tmp_path_factory: pytest.TempPathFactory, nusd: int) -> None:
    """Every nano-dollar of a 16-digit amount survives; a double keeps 15 digits."""
    text = MINIMAL.replace('"0.15"', f'"{format_usd(nusd)}"')
    book = load_text(tmp_path_factory.getbasetemp(), text)
    assert book.model("small").prices.prices[0].input_nusd_per_mtok == nusd


def test_a_yaml_float_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match=r"models\.small\.prices\.0\.input: write 0\.15 as a string"):
        load_text(tmp_path, MINIMAL.replace('"0.15"', "0.15"))


def test_a_yaml_integer_is_accepted(tmp_path: Path) -> None:
    assert load_text(tmp_path, MINIMAL.replace('"0.15"', "30")).model("small").prices.prices[0].input_nusd_per_mtok == (
        30 * 10**9
    )


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('input: "0.15"', 'input: "-1"', r"prices\.0\.input: '-1' is not an amount"),
        ('input: "0.15"', 'input: "0,15"', r"prices\.0\.input: '0,15' is not an amount"),
        ('input: "0.15"', "input: true", r"prices\.0\.input: write True as a string"),
        ('        input: "0.15"\n', "", r"models\.small\.prices\.0\.input: is missing"),
        ("        source: a page\n", "", r"prices\.0\.source: is missing"),
        ("2024-01-25", "20240125.5", r"effective_from: must be a date such as 2024-01-25; found 20240125\.5"),
        ("2024-01-25", "1706140800", r"effective_from: must be a date such as 2024-01-25; found 1706140800"),
        ("2024-01-25", "2024-01-25 10:00:00", r"effective_from: must be a date .*; found datetime"),
        ("2024-01-25", '"25.1.2024"', r"effective_from: Invalid isoformat string: '25\.1\.2024'"),
        ("2024-01-25", "2024-02-30", r"day is out of range"),
        ("context_window: 4096", "context_window: 0", r"context_window: Input should be greater than 0; found 0"),
        ("context_window: 4096", "context_window: 4k", r"Input should be a valid integer.*; found '4k'"),
        ("tokenizer: null", "tokenizer: gpt2", r"tokenizer: Input should be 'cl100k_base'.*; found 'gpt2'"),
        ("[tools]", "[tool]", r"capabilities\.0: Input should be 'tools', 'images' or 'json_schema'; found 'tool'"),
        ("publisher: Someone", "publsher: Someone", r"models\.small\.publsher: is not a known key"),
        ("  small:\n", "  small: {}\n  small:\n", r"the key 'small' stands twice"),
        ("models:", "model:", r"models: is missing"),
        ("models:", "- models:", r"is not YAML|found a list"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = MINIMAL.replace(old, new)
    assert text != MINIMAL
    with pytest.raises(PriceFileError, match=message) as caught:
        load_text(tmp_path, text)
    assert str(tmp_path / "prices.yaml") in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'batch_share: "0.25"',
            'batch_share: "1.5"',
            r"prices\.0\.batch_share: .*less than or equal to 1; found '1\.5'",
        ),
        ('batch_share: "0.25"', 'batch_share: "0"', r"prices\.0\.batch_share: .*greater than 0; found '0'"),
        ('batch_share: "0.25"', "batch_share: 0.5", r"prices\.0\.batch_share: write 0\.5 as a string"),
        ('cache_write: "0.7"', "cache_write: cheap", r"above\.1\.cache_write: 'cheap' is not an amount"),
        ('{input_tokens: 1000, input: "0.3",', "{input_tokens: 1000,", r"above\.0\.input: is missing"),
        ("input_tokens: 1000", "input_tokens: -1", r"above\.0\.input_tokens: .*greater than 0; found -1"),
        (
            "input_tokens: 2000",
            "input_tokens: 1000",
            r"small\.prices\.0\.above\.1\.input_tokens: found 1000 after 1000",
        ),
        ("{input_tokens: 1000,", "{input_tokens: 1000, sorce: x,", r"above\.0\.sorce: is not a known key"),
    ],
)
def test_what_is_wrong_with_tiers_and_batches_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = TIERED.replace(old, new)
    assert text != TIERED
    with pytest.raises(PriceFileError, match=message):
        load_text(tmp_path, text)


@pytest.mark.parametrize("old", ['input: "0.15"', 'output: "0.6"', 'cached_input: "0.05"', 'input: "0.5"'])
def test_a_price_beyond_a_dollar_a_token_is_a_mistake(tmp_path: Path, old: str) -> None:
    text = TIERED.replace(old, old.split(":")[0] + ': "1000000.01"', 1)
    assert text != TIERED
    with pytest.raises(PriceFileError, match=r"models\.small\.prices: found 1\.000e\+6 dollars .* from 2024-01-25"):
        load_text(tmp_path, text)
    assert load_text(tmp_path, text.replace("1000000.01", "1000000"))


def test_dates_must_ascend(tmp_path: Path) -> None:
    again = MINIMAL + MINIMAL[MINIMAL.index("      - effective_from") :]
    with pytest.raises(PriceFileError, match=r"models\.small\.prices\.1\.effective_from: found 2024-01-25 after"):
        load_text(tmp_path, again)


def test_an_empty_file_and_an_absent_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="top level"):
        load_text(tmp_path, "")
    with pytest.raises(PriceFileError, match="cannot be read: No such file"):
        load_prices(tmp_path / "absent.yaml")


# ---- litellm's map -------------------------------------------------------------------------------


def test_a_model_missing_here_is_found_in_litellms_map(tmp_path: Path) -> None:
    info = load_text(tmp_path, MINIMAL).model("gpt-4o-mini")
    assert info.origin.startswith("litellm ")
    price = info.prices.prices[0]
    assert (price.input_nusd_per_mtok, price.output_nusd_per_mtok) == (150_000_000, 600_000_000)
    assert price.effective_from == UNDATED
    assert (info.context_window, info.tokenizer) == (128_000, "o200k_base")


def test_the_file_wins_over_litellms_map(tmp_path: Path) -> None:
    book = load_text(tmp_path, MINIMAL.replace("small:", "gpt-4o-mini:"))
    assert book.model("gpt-4o-mini").context_window == 4096


def test_litellms_map_holds_only_what_can_be_priced_by_the_token() -> None:
    models = load_litellm_map()
    assert len(models) > 1_000
    assert not {"sample_spec", "dall-e-3", "text-embedding-3-small"} & models.keys()
    assert all(info.context_window > 0 and info.max_output_tokens > 0 for info in models.values())


def test_litellms_floats_become_exact_amounts() -> None:
    price = load_litellm_map()["gpt-4.1"].prices.prices[0]
    assert price.input_nusd_per_mtok == int(Decimal("2") * 10**9)


def test_litellms_tiers_batches_and_writes_to_the_cache_are_read() -> None:
    models = load_litellm_map()
    gemini, gpt, qwen, claude = (
        models[name].prices.prices[0]
        for name in ("gemini/gemini-2.5-pro", "gpt-5.4", "dashscope/qwen3-max", "claude-sonnet-4-5")
    )
    (long,) = gemini.tiers
    assert (long.above_input_tokens, long.input_nusd_per_mtok, long.output_nusd_per_mtok) == (
        200_000, 2_500_000_000, 15_000_000_000,
    )  # fmt: skip
    assert long.cached_input_nusd_per_mtok == 250_000_000
    # Its price in batches above 200K tokens is not in the map: cheaper by as much as below.
    assert gemini.batch is not None and gemini.batch.input_nusd_per_mtok == 625_000_000
    assert gemini.batch.tiers[0].output_nusd_per_mtok == 7_500_000_000
    assert gpt.batch is not None and gpt.batch.tiers[0].cached_input_nusd_per_mtok == 250_000_000
    assert [tier.above_input_tokens for tier in qwen.tiers] == [32_000, 128_000]
    assert claude.cache_write_nusd_per_mtok == 3_750_000_000


def test_every_model_of_litellms_whose_map_has_tiers_has_them() -> None:
    tiered = [info for info in load_litellm_map().values() if info.prices.prices[0].tiers]
    assert len(tiered) > 200
    dearer = [info for info in tiered if info.prices.prices[0].tiers[0].input_nusd_per_mtok]
    assert all(
        info.prices.prices[0].tiers[0].input_nusd_per_mtok >= info.prices.prices[0].input_nusd_per_mtok
        for info in dearer
    )


def test_a_price_of_reasoning_that_is_not_modelled_is_noted() -> None:
    assert "Reasoning costs otherwise" in load_litellm_map()["perplexity/sonar-deep-research"].note


def test_an_unknown_model_is_a_value_error_that_suggests_near_names(shipped: PriceBook) -> None:
    with pytest.raises(UnknownModel, match=r"no price is known for the model 'gpt-4-turb'.*'gpt-4-turbo'") as caught:
        shipped.model("gpt-4-turb")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(UnknownModel, match=r"add 'zzzzzzzzzzzz' with its prices to prices\.yaml"):
        shipped.model("zzzzzzzzzzzz")


def test_litellm_is_read_but_never_imported() -> None:
    program = (
        "import sys; from pathlib import Path; from router.prices import load_prices; "
        f"book = load_prices(Path({str(SHIPPED)!r})); book.model('gpt-4'); assert book._litellm is None; "
        "book.model('gpt-4.1'); assert 'litellm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
