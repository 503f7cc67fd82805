"""Known figures are found for their data alone, and are those that their sources state."""

from __future__ import annotations

import pytest

from classifiers.training.published import MIXTRAL_TO_GPT4, PUBLISHED, published


@pytest.mark.parametrize(
    ("dataset", "prompts", "figures"),
    [
        ("mmlu", 14_037, (0.603, 0.354, 0.716)),
        ("gsm8k", 1_307, (0.622, 0.336, 0.633)),
        ("mt_bench", 72, (0.802, 0.134, 0.313)),
    ],
)
def test_routellm_is_quoted_as_it_published(dataset: str, prompts: int, figures: tuple[float, ...]) -> None:
    first = published(dataset, MIXTRAL_TO_GPT4, prompts)[0]
    assert first.router == "RouteLLM, published"
    assert (first.apgr, first.cpt50, first.cpt80) == figures
    assert "arXiv:2406.18665" in first.source


def test_every_figure_is_found_and_says_where_it_is_from() -> None:
    keys = dict.fromkeys((each.dataset, each.pair, each.prompts) for each in PUBLISHED)
    assert tuple(each for key in keys for each in published(*key)) == tuple(
        each for key in keys for each in PUBLISHED if (each.dataset, each.pair, each.prompts) == key
    )
    assert sum(len(published(*key)) for key in keys) == len(PUBLISHED)
    assert all(each.source and 0 < each.apgr < 1 for each in PUBLISHED)
    assert len({(each.router, each.dataset) for each in PUBLISHED}) == len(PUBLISHED)


def test_other_data_another_pair_or_another_number_of_prompts_finds_nothing() -> None:
    assert published("mmlu", MIXTRAL_TO_GPT4, 14_042) == ()
    assert published("mmlu", MIXTRAL_TO_GPT4[::-1], 14_037) == ()
    assert published("gsm8k", MIXTRAL_TO_GPT4, 14_037) == ()
