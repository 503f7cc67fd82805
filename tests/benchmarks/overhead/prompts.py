"""Request bodies of about 1 KB, no two alike, so that neither a response cache nor memoised token counts are measured.

English and Chinese take turns; a body is put together from a pool of sentences by its number, which it also contains.
"""

from __future__ import annotations

from itertools import count
from typing import Final

import orjson

SYSTEM: Final = {
    "en": "You help the staff of a mid-sized workshop with questions about their daily work. Answer plainly.",
    "zh": "你是一家中等规模工厂的助手，回答员工日常工作中的问题。请简明扼要。",
}
ENGLISH: Final = (
    "The conveyor in hall two stops for half a minute whenever the heater next to it switches on.",
    "Please draft a note to the supplier asking why the last three deliveries were short by the same amount.",
    "Our spreadsheet adds up hours per person, but people who work past midnight are counted on the wrong day.",
    "Summarise what changed between the two versions of the safety sheet and what the night shift has to know.",
    "A customer wants the same bracket in aluminium and asks how much lighter it would be at equal stiffness.",
    "Write a short Python function that takes a list of readings and returns those a fifth off the median.",
    "Compare renting a second forklift for the season with buying a used one, and name the figures still missing.",
    "Translate the label on the crate into German and keep the units as they are.",
    "The printer on the third floor prints every second page upside down since the cartridge was changed.",
    "Explain to an apprentice why the saw blade must be let cool before it is measured again.",
    "Plan the inventory for a week in which the warehouse is closed on Wednesday and half of the staff is away.",
    "List the steps to bring the cooling loop back after a power cut, in the order in which they must happen.",
)
CHINESE: Final = (
    "二号车间的传送带每当旁边的加热器启动时就会停半分钟，请帮忙分析可能的原因。",
    "请起草一封给供应商的信，询问最近三次到货为什么都少了同样的数量。",
    "我们的表格按人统计工时，但工作到半夜以后的人会被算到错误的日期。",
    "请总结两版安全手册之间的差别，并说明夜班人员需要知道什么。",
    "有客户想用铝材做同样的支架，问在刚度相同的情况下能轻多少。",
    "写一个简短的函数，读入一组读数，返回与中位数相差超过五分之一的那些值。",
    "比较本季度租用第二台叉车和购买一台二手叉车的成本，并指出还缺哪些数据。",
    "把箱子上的标签翻译成德语，单位保持不变。",
    "三楼的打印机换了墨盒之后，每隔一页就会倒着打印，应该先检查哪里？",
    "向学徒解释为什么锯片必须冷却之后才能再次测量。",
    "仓库周三关闭，一半员工请假，请为这一周安排盘点计划。",
    "列出停电之后恢复冷却回路的步骤，按必须执行的先后顺序排列。",
)
SENTENCES_A_PROMPT: Final = {"en": 5, "zh": 7}
REPEATED_BODIES: Final = 64


class Bodies:
    """Renders one request body after the other; `repeat_share` of them come from a small fixed set.

    They name an end user where there is a `user`.
    """

    def __init__(
        self, model: str, stream: bool, repeat_share: float = 0.0, first_number: int = 0, user: str = ""
    ) -> None:
        self._numbers = count(first_number)
        self._repeat_every = round(1 / repeat_share) if repeat_share > 0 else 0
        self._heads = {language: _head(model, stream, language, user) for language in SYSTEM}

    def __iter__(self) -> Bodies:
        return self

    def __next__(self) -> bytes:
        number = next(self._numbers)
        if self._repeat_every and number % self._repeat_every == 0:
            number = number // self._repeat_every % REPEATED_BODIES
        language = "zh" if number % 2 else "en"
        return self._heads[language] + prompt(number, language).encode() + b'"}]}'


def _head(model: str, stream: bool, language: str, user: str) -> bytes:
    """Everything of a body before the text of the last message."""
    request: dict[str, object] = {"model": model, "temperature": 0.2, "max_tokens": 256}
    if user:
        request["user"] = user
    if stream:
        request["stream"] = True
        if language == "zh":  # Half of the streams ask for their usage, as half of the applications do.
            request["stream_options"] = {"include_usage": True}
    request["messages"] = [{"role": "system", "content": SYSTEM[language]}, {"role": "user", "content": ""}]
    return orjson.dumps(request).removesuffix(b'"}]}')


def prompt(number: int, language: str) -> str:
    """The text of request `number`: sentences picked by its digits, with the number among them."""
    pool = CHINESE if language == "zh" else ENGLISH
    step = 1 + number // len(pool) % (len(pool) - 1)
    picked = [pool[(number + turn * step) % len(pool)] for turn in range(SENTENCES_A_PROMPT[language])]
    picked.insert(2, f"(工单 {number}号)" if language == "zh" else f"(This is about work order {number}.)")
    return " ".join(picked)
