"""Everyday prompts get the tier a person would give them, in English and in Chinese alike."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifiers.base import Message, Prompt
from classifiers.features import Features
from classifiers.heuristic import NAME, SIGNALS, HeuristicClassifier
from tests.contracts.classifier_suite import TALKATIVE

RULES = HeuristicClassifier()


def user(text: str) -> Prompt:
    return Prompt((Message("user", text),))


def score(text: str) -> float:
    return RULES.classify(user(text)).score


SIMPLE = [
    ("Good morning! How are you?", "早上好！最近好吗？"),
    ("Thanks a lot, see you tomorrow.", "非常感谢，明天见。"),
    ("Translate into German: 'The shop opens at nine.'", "翻译成德语：商店九点开门。"),
    (
        "Extract every city from: 'We flew from Oslo to Lima via Madrid.'",
        "提取句子里的城市：我们从奥斯陆经马德里飞往利马。",
    ),
    ("Is this message spam or not? 'You have won a cruise.'", "这条短信是垃圾短信吗？“您已中奖，请领取邮轮旅行。”"),
    ("Classify the ticket as billing or shipping: my parcel is late.", "把这张工单分类为账单或物流：我的包裹还没到。"),
    ("What is the capital of Kenya?", "肯尼亚的首都是哪里？"),
    ("What is a mortgage?", "什么是按揭贷款？"),
    ("Correct the spelling: 'tomorow we recieve the goods'", "改正错别字：明天我门去公圆玩。"),
    ("Give me three names for a bakery.", "给面包店起三个名字。"),
    (
        "Summarize in one line: the meeting moved to Friday because the hall is booked.",
        "用一句话总结：礼堂被占用，会议改到周五。",
    ),
]
MODERATE = [
    ("Explain how vaccines work and why boosters matter.", "解释疫苗的工作原理，以及为什么需要加强针。"),
    ("Compare electric and hybrid cars for a commuter.", "对比电动车和混合动力车对通勤者的优缺点。"),
    (
        "A tank holds 240 litres and drains 8 litres per minute. How many minutes until 40 litres remain?",
        "水箱有240升水，每分钟流出8升，多少分钟后剩下40升？",
    ),
    (
        "Write a SQL query with a function that counts the orders of each customer.",
        "写一个SQL查询和函数，从数据库统计每位客户的订单数量。",
    ),
]
INVENTORY = """Design an inventory service for 40 shops: it must stay available when one data centre fails, must never
sell an item twice and answers within 50 ms. Compare two consistency models, justify your choice and list the steps."""
INVENTORY_ZH = """为四十家门店设计库存系统：必须在一个机房故障时保持可用，不能重复出售同一件商品，延迟不超过50毫秒。
比较两种一致性方案，解释理由，并列出实施步骤。"""
CODE = "```python\ndef run(self):\n    self.lock.acquire()\n    self.step()\n```"
DEADLOCK = f"""Our worker process deadlocks twice a day. Analyze the code, explain why the mutex is never released, and
refactor it without a global lock:\n{CODE}"""
DEADLOCK_ZH = f"""我们的进程每天死锁两次。分析下面的代码，解释为什么锁没有释放，并重构，要求不能使用全局锁：\n{CODE}"""
COMPLEX = [
    ("Prove that the sum of two irrational numbers can be rational.", "证明两个无理数之和可以是有理数。"),
    (INVENTORY, INVENTORY_ZH),
    (
        "First derive the derivative of x^x, then find its minimum, and finally prove that the minimum is unique.",
        "首先推导函数 x^x 的导数，然后求最小值，最后证明最小值唯一。",
    ),
    (DEADLOCK, DEADLOCK_ZH),
]


@pytest.mark.parametrize(
    ("tier", "text"),
    [
        (tier, text)
        for tier, pairs in (("simple", SIMPLE), ("moderate", MODERATE), ("complex", COMPLEX))
        for pair in pairs
        for text in pair
    ],
)
def test_everyday_prompts_get_the_expected_tier(tier: str, text: str) -> None:
    answer = RULES.classify(user(text))
    assert answer.tier == tier, answer


@pytest.mark.parametrize(
    ("easier", "harder"),
    [
        ("What is a prime number?", "Prove that there are infinitely many prime numbers."),
        ("什么是质数？", "证明质数有无穷多个。"),
        ("Write a poem.", "Write a poem of exactly 14 lines; every line must avoid the letter e."),
        ("写一首诗。", "写一首诗，必须恰好十四行，每行不超过七个字，不能出现“月”字。"),
        ("Translate 'I am late' into French.", "Explain why French uses 'être' there and compare it with Spanish."),
        ("把“我迟到了”翻译成法语。", "解释法语这里为什么用“être”，并与西班牙语比较。"),
        (
            "Plan a day in Rome.",
            "Plan three days in Rome, then compare two budgets, and finally justify the cheaper one.",
        ),
        ("计划罗马一日游。", "首先计划罗马三日游，然后对比两种预算，最后论证更便宜的方案。"),
        ("Sort these names: Bo, Al, Cy.", "Implement a stable sorting algorithm and analyze its worst case."),
        ("给这些名字排序：王、李、赵。", "实现一个稳定的排序算法，并分析最坏情况。"),
        (
            "Which is larger, 5 or 7?",
            "5 men dig 7 holes in 3 hours. How many holes do 9 men dig in 2 hours, on average?",
        ),
        ("5和7哪个大？", "5个人3小时挖7个坑，平均每小时挖几个？9个人2小时一共挖多少个？"),
    ],
)
def test_the_harder_variant_scores_higher(easier: str, harder: str) -> None:
    assert score(easier) < score(harder)


@pytest.mark.parametrize(
    "reassurance", ["This is simple.", "It is easy, just a quick, trivial question.", "这很简单。"]
)
@pytest.mark.parametrize("text", [text for pair in (*MODERATE, *COMPLEX) for text in pair])
def test_calling_a_task_simple_does_not_lower_its_score(reassurance: str, text: str) -> None:
    assert score(f"{reassurance} {text}") >= score(text)
    assert score(f"{text} {reassurance}") >= score(text)


@given(text=TALKATIVE.map(lambda text: text[:100]), reassurance=st.sampled_from(["This is simple.", "这很简单。"]))
@settings(deadline=None)
def test_calling_anything_simple_does_not_lower_its_score(text: str, reassurance: str) -> None:
    assert score(f"{text} {reassurance}") >= score(text)
    assert score(f"{reassurance} {text}") >= score(text)


HARD_SESSION = {
    "en": (
        Message("user", "Prove that every bounded monotone sequence converges, and derive the rate for a fixed point."),
        Message("assistant", "Plan: first a lemma on suprema, then the theorem, finally the rate. Shall I proceed?"),
    ),
    "zh": (
        Message("user", "请设计一个多租户计费系统，必须保证不超扣，比较两种方案并证明其正确性。"),
        Message("assistant", "好的，首先给出架构，然后比较方案。是否继续？"),
    ),
}


@pytest.mark.parametrize("session", HARD_SESSION)
@pytest.mark.parametrize("reply", ["yes, do it", "ok", "继续", "好的，开始吧", "Go on. This is simple."])
def test_a_short_reply_inside_a_hard_session_is_hard(session: str, reply: str) -> None:
    talk = (*HARD_SESSION[session], Message("user", reply))
    assert RULES.classify(Prompt(talk)).tier == "complex"
    assert RULES.classify(user(reply)).tier == "simple"


def test_a_small_task_of_its_own_inside_a_hard_session_costs_less() -> None:
    session = HARD_SESSION["en"]
    go_on = RULES.classify(Prompt((*session, Message("user", "yes, do it"))))
    thanks = RULES.classify(Prompt((*session, Message("user", "thanks!"))))
    assert thanks.score < go_on.score


def test_chatter_stays_simple_under_a_strict_system_message() -> None:
    system = Message("system", "You are a shop assistant. You must always answer in JSON and never discuss prices.")
    assert RULES.classify(Prompt((system, Message("user", "Hello!")))).tier == "simple"


def test_signals_are_named_strongest_first() -> None:
    answer = RULES.classify(user(INVENTORY))
    assert answer.signals[0] == "reasoning asked"
    assert {"constraints", "quantities", "explanation asked"} & set(answer.signals)
    assert set(answer.signals) <= {signal.name for signal in SIGNALS}
    assert answer.classifier == NAME == "heuristic@1"


def test_nothing_found_names_no_signal() -> None:
    assert RULES.classify(user("banana")).signals == ()


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt((Message("user", "look"),), tool_count=6),
        Prompt((Message("user", "look"),), response_format="json_schema"),
        Prompt((Message("user", "look", image_count=1),)),
        Prompt((Message("user", "look"),), max_output_tokens=8000),
        Prompt((*[Message("assistant", "ok")] * 9, Message("user", "look"))),
    ],
    ids=["tools", "structured output", "image", "long answer", "long talk"],
)
def test_what_surrounds_the_text_raises_the_score(prompt: Prompt) -> None:
    assert RULES.classify(prompt).score > score("look")


def test_every_signal_reads_a_feature_and_only_routine_lowers() -> None:
    assert {signal.feature for signal in SIGNALS} <= set(Features._fields)
    assert [signal.name for signal in SIGNALS if signal.weight < 0] == ["routine task"]


def test_thresholds_are_the_callers() -> None:
    text = MODERATE[0][0]
    assert HeuristicClassifier(0.0, 0.0).classify(user(text)).tier == "complex"
    assert HeuristicClassifier(1.0, 1.0).classify(user(text)).tier == "simple"


@pytest.mark.parametrize("thresholds", [(0.7, 0.3), (-0.1, 0.5), (0.2, 1.1), (float("nan"), 0.5)])
def test_thresholds_out_of_order_are_refused(thresholds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must hold"):
        HeuristicClassifier(*thresholds)
