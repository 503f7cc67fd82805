"""What a prompt says about the length of its answer: words that ask for much or little, counts, given material.

All numbers here are set by hand, from how chat models write; none is fitted to recorded answers. They are logarithms
of factors on the length of an answer to a question that says nothing of it. Cues, not proof: a wrong one moves an
estimate, and nothing is refused or held by it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from classifiers.vocabulary import pairs_of

# What is read of a message, in characters: instructions stand at its head or its tail.
HEAD, TAIL = 240, 100
# Of a Chinese message: a character says as much as four or five letters.
HAN_HEAD, HAN_TAIL = 100, 50
# Verbs such as "translate" ask for what they say only as the instruction itself: among so many words at either end.
_INSTRUCTION_WORDS = 9


class Cue(NamedTuple):
    """Words, any of which adds `location` to the logarithm of the tokens and `spread` to its standard deviation.

    Chinese is read in pairs of neighbouring characters: a longer word stands by the pair that tells it apart.
    """

    name: str
    location: float
    spread: float
    english: str = ""
    chinese: str = ""


CUES = (
    Cue(
        "brief",
        -0.6,
        0.0,
        "brief briefly concise concisely succinct succinctly tldr short shorter quick quickly",
        "简要 简短 简洁 简述 简单 扼要 精简 简练",
    ),
    Cue(
        "thorough",
        0.25,
        0.0,
        "detailed comprehensive thorough thoroughly depth elaborate extensive extensively",
        "详细 深入 全面 具体 详尽",
    ),
    Cue(
        "composition",
        0.45,
        -0.1,
        "essay story stories article blog report novel speech script screenplay proposal itinerary curriculum chapter",
        "作文 文章 故事 小说 报告 演讲 剧本 方案 策划 计划 论文 博客",
    ),
    Cue("verse", 0.0, 0.0, "poem poems lyrics song rap sonnet rhyme", "首诗 诗歌 歌词"),
    Cue("letter", -0.1, -0.1, "email emails letter mail memo invitation", "邮件 封信 通知 请柬"),
    Cue(
        "snippet",
        -1.2,
        0.2,
        "headline headlines title titles slogan slogans tagline caption captions tweet haiku joke jokes riddle",
        "标题 口号 笑话 告语 对联 谜语",
    ),
    Cue(
        "verdict",
        -1.5,
        0.3,
        "classify classification label labels categorize categorise category categories sentiment spam",
        "判断 分类 类别 情感 罪名",
    ),
    Cue("extract", -0.8, 0.2, "extract identify fill blank missing", "提取 抽取 找出 填空"),
    Cue("list", 0.1, 0.0, "list ideas suggestions tips ways examples recommendations brainstorm", "列出 列举 哪些"),
    Cue(
        "explanation",
        0.15,
        0.0,
        "explain describe discuss how why compare difference differences pros cons advantages",
        "解释 为什 为何 如何 怎么 怎样 介绍 比较 区别 分析",
    ),
    Cue("steps", 0.15, -0.1, "step steps recipe instructions procedure tutorial", "步骤 教程 做法 流程 食谱"),
    Cue(
        "code",
        0.1,
        0.0,
        "function program script python java javascript code sql html css implement",
        "代码 函数 程序 脚本",
    ),
    Cue("table", -0.1, 0.0, "table csv json spreadsheet excel", "表格"),
    Cue("quantity", -0.3, 0.1, "many much", "多少 几个"),
    Cue("courtesy", -2.6, 0.3, "hello hi hey thanks thank bye goodbye", "你好 您好 谢谢 再见"),
    # From here on the words alone do not make the cue.
    Cue(
        "only the answer",
        -1.5,
        0.3,
        "",
        "只需 仅需 只回 只输 只给 只返 直接 严格 要解 无需",
    ),
    Cue("yes or no", -0.8, 0.3, "", "是否 不对 是不"),
    Cue("choices", -1.0, 0.2),
    Cue("opens with who, when, where, which", -0.8, 0.1, "", "谁是 是谁 么时 哪里 哪一 哪年 哪个"),
    Cue("opens with what", -0.45, 0.0, "", "是什"),
    Cue("ends in a colon", -0.6, 0.1),
    Cue("material given", -0.3, 0.1),
)
INDEX = {cue.name: at for at, cue in enumerate(CUES)}
_ONLY, _YES_NO, _CHOICES = INDEX["only the answer"], INDEX["yes or no"], INDEX["choices"]
_WHO, _WHAT, _COLON, _MATERIAL = (INDEX[cue.name] for cue in CUES[-4:])
_COURTESY = INDEX["courtesy"]
_CHOICE_MARKS = (("\nB", "\nC"), ("(B)", "(C)"), ("B:", "C:"))
_STRUCTURE_CHARACTERS = 3_000
_COURTESY_CHARACTERS = 40
_MATERIAL_CHARACTERS = 30

# Marks of words that are part of a cue, after those that are a cue alone. No mark is zero.
_FIRST_PART = len(CUES) + 1
_PARTS = {
    "only": "only just",
    "yes": "yes true",
    "no": "no false",
    "counted": """
        word words sentence sentences paragraph paragraphs bullet bullets points lines line characters pages page items
        reasons names things questions facts options""",
    "transform": "translate rewrite rephrase paraphrase proofread reword correct translation edit convert simplify",
    "summary": "summarize summarise summary summaries",
}
_ONLY_PART, _YES_PART, _NO_PART, _COUNTED, _TRANSFORM, _SUMMARY = range(_FIRST_PART, _FIRST_PART + len(_PARTS))
_MARK_OF_WORD: dict[bytes, int] = {
    **{word.encode(): mark for mark, words in enumerate(_PARTS.values(), _FIRST_PART) for word in words.split()},
    **{word.encode(): at + 1 for at, cue in enumerate(CUES) for word in cue.english.split()},
}
# Words that are a cue alone and count things as well ("ideas"): where they stand, a number is looked for, too.
_COUNTED_TOO = frozenset({INDEX["list"] + 1, INDEX["steps"] + 1})
_ONLY_WORDS = frozenset((b"only", b"just"))
_ANSWERING = frozenset(b"answer respond reply output return give provide print".split())
_mark_of_word = _MARK_OF_WORD.get
_OPENINGS = {
    **dict.fromkeys((b"who", b"when", b"where", b"which", b"whose", b"whom"), _WHO),
    **dict.fromkeys((b"what", b"whats"), _WHAT),
}
_CHINESE_PARTS = {_TRANSFORM: "翻译 译成 译为 改写 润色 改正 纠正 校对", _SUMMARY: "总结 概括 摘要"}
_mark_of_pair = {
    pairs_of(pair)[0]: mark
    for mark, pairs in (*((at + 1, cue.chinese) for at, cue in enumerate(CUES)), *_CHINESE_PARTS.items())
    for pair in pairs.split()
}.get

# Tokens that one of what is counted takes, and how far the count is to be trusted beside the other cues.
_ITEM = (32.0, 0.5)
_TOKENS_OF: dict[bytes, tuple[float, float]] = {
    **dict.fromkeys(b"points items ideas tips ways examples reasons suggestions names things".split(), _ITEM),
    **dict.fromkeys(b"questions facts steps options".split(), _ITEM),
    **dict.fromkeys(b"word words".split(), (1.35, 0.9)),
    **dict.fromkeys(b"sentence sentences".split(), (28.0, 0.85)),
    **dict.fromkeys(b"paragraph paragraphs".split(), (95.0, 0.85)),
    **dict.fromkeys(b"bullet bullets".split(), (32.0, 0.7)),
    **dict.fromkeys(b"line lines".split(), (14.0, 0.7)),
    **dict.fromkeys(b"characters".split(), (0.25, 0.9)),
    **dict.fromkeys(b"page pages".split(), (550.0, 0.6)),
}
_TOKENS_OF_CHINESE = {"字": (1.3, 0.9), "词": (2.0, 0.9), "句": (35.0, 0.85), "段": (130.0, 0.85)}
_NUMBERS: dict[bytes, int] = {
    word.encode(): value
    for value, words in {
        1: "a an one single",
        2: "two",
        3: "three",
        4: "four",
        5: "five",
        6: "six",
        7: "seven",
        8: "eight",
        9: "nine",
        10: "ten",
        12: "twelve",
        15: "fifteen",
        20: "twenty",
        50: "fifty",
        100: "hundred",
    }.items()
    for word in words.split()
}
_CHINESE_DIGITS = {digit: value for value, digit in enumerate("一二三四五六七八九", start=1)} | {"两": 2}
_CHINESE_POWERS = {"十": 10, "百": 100, "千": 1000}
_NUMBER_DIGITS = 5
_WORDS_BETWEEN = 3
_AT_MOST_WORDS = frozenset(b"less fewer under within most maximum max limit up more exceed".split())
_CHINESE_COUNT = re.compile(
    r"([0-9]{1,5}|[一二两三四五六七八九十百千]{1,3}) ?(?:个|多|来|余)?(字|词|句|段|条|点|个|种)"
)
_CHINESE_AT_MOST = re.compile("不超过|以内|之内|最多")
_AT_MOST_SHARE = 0.7
_AROUND = 6
_LONGEST_ASKED, _BEYOND_POWER = 600.0, 0.6
# A summary's share of what it summarises, and its bounds in tokens.
_SUMMARY_SHARE, _SUMMARY_LEAST, _SUMMARY_MOST = 0.35, 40.0, 160.0
_REWRITTEN_SHARE, _REWRITTEN_EXTRA = 1.1, 8.0
# The instruction itself; and what is less than a short sentence is no material but its name ("my essay").
_INSTRUCTION_TOKENS, _LEAST_MATERIAL_TOKENS = 4.0, 4.0
_MATERIAL_TRUST = 0.8
# Tokens a character makes, as BPE vocabularies of chat models have them; between, by the share of wide characters.
TOKENS_PER_LETTER, TOKENS_PER_WIDE = 0.23, 1.2


class Target(NamedTuple):
    """A length that the prompt names or implies, and the weight in [0, 1] of its logarithm beside the other cues'."""

    tokens: float
    trust: float


class Reading(NamedTuple):
    """The cues found in a text, by index, each once; and the length asked for, where one is."""

    cues: tuple[int, ...] = ()
    target: Target | None = None


def _fold(byte: int) -> int:
    if byte < 128 and chr(byte).isalpha():
        return ord(chr(byte).lower())
    return byte if 48 <= byte <= 57 else ord(" ")


# Letters to lower case, digits kept, all else to a space; an apostrophe is dropped, so that "what's" is one word.
_FOLD = bytes(map(_fold, range(256)))


def read(text: str) -> Reading:
    """What a message says of its answer's length. Bounded time; never raises."""
    ends = text if len(text) <= HEAD + TAIL else text[:HEAD] + "\n" + text[-TAIL:]
    raw = ends.encode("utf-8", "surrogatepass")
    words = raw.translate(_FOLD, b"'").split()
    marks = bytes(filter(None, map(_mark_of_word, words)))
    wide = (len(raw) - len(ends)) / (2 * len(ends)) if ends else 0.0
    found = {mark - 1 for mark in marks if mark < _FIRST_PART}
    if _COURTESY in found and len(text) > _COURTESY_CHARACTERS:
        found.discard(_COURTESY)
    found.update(_composed(marks, words, text))
    if wide > 0.2:
        han = ends if len(ends) <= HAN_HEAD + HAN_TAIL else ends[:HAN_HEAD] + "\n" + ends[-HAN_TAIL:]
        pairs = bytes(filter(None, map(_mark_of_pair, pairs_of(han))))
        found.update([mark - 1 for mark in pairs if mark < _FIRST_PART])
        return Reading(tuple(found), _chinese_target(pairs, han, len(text) * _tokens_per_character(wide)))
    return Reading(tuple(found), _target(marks, words, len(text) * _tokens_per_character(wide)))


def _tokens_per_character(wide: float) -> float:
    return TOKENS_PER_LETTER + (TOKENS_PER_WIDE - TOKENS_PER_LETTER) * min(wide, 1.0)


def tokens_of(text: str) -> float:
    """About how many tokens a text makes, by the share of wide characters at its head."""
    head = text[:HEAD]
    wide = (len(head.encode("utf-8", "surrogatepass")) - len(head)) / (2 * len(head)) if head else 0.0
    return len(text) * _tokens_per_character(wide)


def _composed(marks: bytes, words: list[bytes], text: str) -> list[int]:
    """The cues that take more than a word."""
    found = []
    head = text[:_STRUCTURE_CHARACTERS]
    if words and words[0] in _OPENINGS:
        found.append(_OPENINGS[words[0]])
    if _ONLY_PART in marks and _only_the_answer(words):
        found.append(_ONLY)
    if _YES_PART in marks and _NO_PART in marks:
        found.append(_YES_NO)
    if "B" in head and any(second in head and third in head for second, third in _CHOICE_MARKS):
        found.append(_CHOICES)
    elif 0 <= head.find("\n") < len(text) - _MATERIAL_CHARACTERS:
        found.append(_MATERIAL)
    if text[-3:].rstrip()[-1:] in (":", "："):
        found.append(_COLON)
    return found


def _only_the_answer(words: list[bytes]) -> bool:
    """Whether "only" or "just" stands close to a verb of answering."""
    spots = [at for at, word in enumerate(words) if word in _ONLY_WORDS]
    return any(not _ANSWERING.isdisjoint(words[max(0, at - 4) : at + 4]) for at in spots)


def _target(marks: bytes, words: list[bytes], tokens: float) -> Target | None:
    if _COUNTED in marks or not _COUNTED_TOO.isdisjoint(marks):
        counted = _counted(words)
        if counted is not None:
            return counted
    if _TRANSFORM not in marks and _SUMMARY not in marks:
        return None
    near = {_mark_of_word(word) for word in (*words[:_INSTRUCTION_WORDS], *words[-_INSTRUCTION_WORDS:])}
    return _of_material(_TRANSFORM in near, _SUMMARY in near, tokens - _INSTRUCTION_TOKENS)


def _chinese_target(marks: bytes, han: str, tokens: float) -> Target | None:
    return _counted_in_chinese(han) or _of_material(
        _TRANSFORM in marks, _SUMMARY in marks, tokens - _INSTRUCTION_TOKENS
    )


def _counted(words: list[bytes]) -> Target | None:
    """The first number with something after it that has a length of its own; "at most" near it lowers it."""
    for at, word in enumerate(words):
        if word in _TOKENS_OF:
            start = max(0, at - _WORDS_BETWEEN)
            count = _number(words[start:at])
            tokens_each, trust = _TOKENS_OF[word]
            if count > 1 or (count == 1 and tokens_each != _ITEM[0]):
                few = not _AT_MOST_WORDS.isdisjoint(words[max(0, start - 2) : at])
                return _asked(count * tokens_each, few, trust)
    return None


def _number(words: list[bytes]) -> int:
    """The last number among the words, 0 for none; "1,000" has been folded into two words."""
    for at in range(len(words) - 1, -1, -1):
        word = words[at]
        if word in _NUMBERS:
            return _NUMBERS[word]
        if word.isdigit() and len(word) <= _NUMBER_DIGITS:
            thousands = word == b"000" and at > 0 and words[at - 1].isdigit() and len(words[at - 1]) <= 2
            return int(words[at - 1]) * 1000 if thousands else int(word)
    return 0


def _counted_in_chinese(han: str) -> Target | None:
    match = _CHINESE_COUNT.search(han)
    if match is None:
        return None
    count = int(match[1]) if match[1].isdigit() else _chinese_number(match[1])
    tokens_each, trust = _TOKENS_OF_CHINESE.get(match[2], _ITEM)
    if count < 1 or (count == 1 and match[2] not in _TOKENS_OF_CHINESE):
        return None
    around = han[max(0, match.start() - _AROUND) : match.end() + _AROUND]
    return _asked(count * tokens_each, bool(_CHINESE_AT_MOST.search(around)), trust)


def _chinese_number(numeral: str) -> int:
    """Of numerals such as 三, 十二, 三百; 0 for what is none."""
    total, digit = 0, 0
    for sign in numeral:
        if sign in _CHINESE_POWERS:
            total, digit = total + (digit or 1) * _CHINESE_POWERS[sign], 0
        else:
            digit = _CHINESE_DIGITS[sign]
    return total + digit


def _asked(tokens: float, at_most: bool, trust: float) -> Target:
    return Target(_damped(max(tokens * (_AT_MOST_SHARE if at_most else 1.0), 1.0)), trust)


def _damped(tokens: float) -> float:
    """Models fall short of long targets: beyond 600 tokens, with the power 0.6 of the excess ratio."""
    return tokens if tokens <= _LONGEST_ASKED else _LONGEST_ASKED * (tokens / _LONGEST_ASKED) ** _BEYOND_POWER


def _of_material(transform: bool, summary: bool, tokens: float) -> Target | None:
    """What a translation, a rewriting or a summary of so many tokens takes."""
    if tokens < _LEAST_MATERIAL_TOKENS:
        return None
    if summary:
        return Target(min(max(_SUMMARY_SHARE * tokens, _SUMMARY_LEAST), _SUMMARY_MOST), _MATERIAL_TRUST)
    return Target(_REWRITTEN_SHARE * tokens + _REWRITTEN_EXTRA, _MATERIAL_TRUST) if transform else None
