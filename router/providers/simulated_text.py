"""What the simulated models say: sentences of our own, strung together until they are as long as a model's would be.

They answer nothing. A reader, and a test, must be able to tell them from a real model's answer at a glance.
"""

from __future__ import annotations

import random
import re
from typing import Literal

from router.tokenizers import estimate_tokens

Kind = Literal["label", "extract", "reply", "summary", "code", "compare", "maths", "design", "explain"]
Language = Literal["en", "zh"]

# Kind, its English words, its Chinese ones. Checked in this order: who asks for one word about a proof wants one word.
KIND_WORDS: tuple[tuple[Kind, str, str], ...] = (
    (
        "label",
        "one word|single word|yes or no|true or false|only the|just the|classify|categori[sz]e|label|which category",
        "一个词|一个字|只回答|只输出|只给出|是或否|是否|分类|归类|标签|哪一类|情感",
    ),
    ("extract", "extract|pull out|list the|find all|parse", "提取|抽取|列出|找出|解析出"),
    (
        "maths",
        "prove|proof|theorem|integral|derive|derivative|solve|lemma|probability|compute",
        "证明|推导|积分|求解|定理|概率|计算|求导",
    ),
    (
        "design",
        r"design|architect\w*|migration plan|strategy|roadmap|proposal|trade-?offs?",
        "设计|架构|方案|规划|策略|权衡",
    ),
    (
        "code",
        "def|class|select|function|refactor|debug|sql|regex|python|traceback|bug|unit tests?|code",
        "```|代码|函数|脚本|报错|调试|重构|单元测试|正则",
    ),
    ("compare", "compare|versus|vs|contrast|pros and cons|differences?", "比较|对比|区别|优缺点|异同"),
    ("summary", r"summari[sz]e|summary|tl;?dr|abstract|condense|shorten", "总结|摘要|概括|归纳|缩写"),
    (
        "reply",
        r"reply|respond|draft|e-?mail|message|apolog\w+|translate|rewrite|thank",
        "回复|邮件|草拟|道歉|翻译|改写|感谢",
    ),
)
KIND_PATTERNS = tuple(
    (kind, re.compile(rf"\b(?:{english})\b|{chinese}", re.IGNORECASE)) for kind, english, chinese in KIND_WORDS
)

# Tokens of an answer by a model of wordiness 1.
LENGTHS: dict[Kind, int] = {
    "label": 10,
    "extract": 45,
    "reply": 90,
    "summary": 110,
    "explain": 150,
    "compare": 280,
    "code": 260,
    "maths": 420,
    "design": 520,
}
SHORTEST_TOKENS = 4
# A long question draws a longer answer, up to a point.
EXTRA_PER_QUESTION_TOKEN = 0.12
MOST_EXTRA_TOKENS = 160

OPENINGS: dict[Language, tuple[str, ...]] = {
    "en": (
        "This is a stand-in answer about {topic}.",
        "No model read this; the text only takes the place of an answer about {topic}.",
        "What follows is filler of a plausible length on {topic}.",
        "Imagine here what a model would say about {topic}.",
    ),
    "zh": (
        "这是一段关于{topic}的占位回答。",
        "没有真正的模型读过这个问题，下面的文字只是代替关于{topic}的答案。",
        "以下内容只在长度上模仿一份关于{topic}的回答。",
        "请把这里想象成模型对{topic}的答复。",
    ),
}

SENTENCES: dict[Language, tuple[str, ...]] = {
    "en": (
        "A real answer would begin with what {topic} is for.",
        "The first step would be to write down what is known and what is asked.",
        "It would then name the assumption that matters most.",
        "A short example usually makes this easier to follow.",
        "Here a careful writer would give one number and say where it comes from.",
        "The usual case is simple; the edges are where mistakes are made.",
        "One would check the result against a case that can be worked by hand.",
        "There are two ways to go on, and they differ in cost rather than in outcome.",
        "The second way asks for more work now and less of it later.",
        "This sentence stands where a caveat about {topic} would stand.",
        "If the input is empty, nothing needs to be done, and that should be said.",
        "Next comes the part that most readers skip and later look up.",
        "A table would fit here, but the simulator only writes prose.",
        "Nothing in this paragraph should be taken as advice.",
        "The remaining cases follow in the same manner.",
        "It would be fair to mention who disagrees, and why.",
        "The order of these steps matters less than doing all of them.",
        "With that in place, the question about {topic} comes down to a choice.",
        "A reviewer would ask at this point what happens when it fails.",
        "The honest reply is that it depends, and the following says on what.",
        "Everything above can be undone, save for the last step.",
        "To sum up, the placeholder ends where the real conclusion would be drawn.",
    ),
    "zh": (
        "真正的回答会先说明{topic}要解决什么问题。",
        "第一步通常是写清已知条件和所求内容。",
        "接着应当指出最关键的那个假设。",
        "举一个小例子往往更容易理解。",
        "这里本该给出一个数字，并说明它的出处。",
        "一般情形并不复杂，容易出错的是边界情形。",
        "可以用一个能手算的例子来核对结果。",
        "往下有两条路可走，差别在代价而不在结果。",
        "第二条路现在多费些功夫，以后会省事一些。",
        "这句话占据的位置，本来属于对{topic}的一条提醒。",
        "如果输入为空，就什么都不必做，这一点也应当写明。",
        "接下来的部分大多数读者会跳过，事后再回来查。",
        "这里适合放一张表，不过模拟器只会写文字。",
        "本段内容不构成任何建议。",
        "其余情形可以照同样的办法处理。",
        "公平起见，也应提到有人持不同看法，以及他们的理由。",
        "这些步骤的先后并不重要，重要的是一步不少。",
        "有了这些准备，关于{topic}的问题就归结为一次选择。",
        "审阅的人到这里会问：要是失败了怎么办？",
        "老实说，这要看情况，下面说明看什么情况。",
        "除了最后一步，上面的做法都可以撤回。",
        "总之，占位文字到此为止，真正的结论应写在这里。",
    ),
}

LABELS: dict[Language, tuple[str, ...]] = {
    "en": ("Placeholder.", "Undecided.", "Category A.", "Category B.", "Neutral.", "None of these."),
    "zh": ("占位。", "未定。", "甲类。", "乙类。", "中性。", "以上都不是。"),
}

CODE: dict[Language, str] = {
    "en": '```python\ndef stand_in(items):\n    """Does nothing useful: the simulator wrote it."""\n'
    "    return [item for item in items if item is not None]\n```",
    "zh": '```python\ndef stand_in(items):\n    """没有实际用途：由模拟器写成。"""\n'
    "    return [item for item in items if item is not None]\n```",
}

# Words too common to say what a question is about; shorter ones are never looked at.
STOP_WORDS = frozenset(
    (
        *("about", "could", "does", "from", "give", "have", "into", "only", "please", "that", "their", "them", "there"),
        *("these", "they", "this", "what", "when", "which", "will", "with", "would", "your"),
    )
)

# Chinese is written without spaces: a clause is quoted whole, but for the words of asking around it, or not at all.
CLAUSE = re.compile(r"[\u4e00-\u9fff]+")
ASKING_ZH = re.compile(
    r"^(?:请问|请(?![假客教求示])|帮我|给我|用一句话|解释一下|解释(?!器)|说明一下|说明(?!书)|介绍一下|介绍(?!信)"
    r"|什么是|什么叫|为什么|为何|如何|怎么样?|怎样)+|(?:是什么|怎么样|吗|呢)$"
)
LONGEST_CLAUSE = 16


def language_of(text: str) -> Language:
    """Chinese where Chinese characters outnumber Latin words by half, else English."""
    chinese = len(re.findall(r"[\u4e00-\u9fff]", text))
    words = len(re.findall(r"[A-Za-z]+", text))
    return "zh" if chinese > 0 and chinese >= words / 2 else "en"


def kind_of(question: str) -> Kind:
    """What sort of answer the question wants, by its words."""
    return next((kind for kind, pattern in KIND_PATTERNS if pattern.search(question)), "explain")


def topic_of(question: str, language: Language, rng: random.Random) -> str:
    """A word or two of the question, so that the answer seems to be about it."""
    if language == "zh":
        clauses = [ASKING_ZH.sub("", clause) for clause in CLAUSE.findall(question)]
        fitting = [clause for clause in clauses if 2 <= len(clause) <= LONGEST_CLAUSE]
        return f"“{rng.choice(fitting)}”" if fitting else "这个问题"
    words = [word for word in re.findall(r"[A-Za-z][A-Za-z-]{3,}", question) if word.lower() not in STOP_WORDS]
    return f'"{rng.choice(words)}"' if words else "this question"


def target_tokens(question: str, question_tokens: int, wordiness: float, rng: random.Random) -> int:
    """How long the answer should be, by the question's kind and length and the model's wordiness, give or take."""
    kind = kind_of(question)
    extra = 0.0 if kind == "label" else min(question_tokens * EXTRA_PER_QUESTION_TOKEN, MOST_EXTRA_TOKENS)
    return max(int((LENGTHS[kind] + extra) * wordiness * rng.uniform(0.8, 1.2)), SHORTEST_TOKENS)


def compose(question: str, tokens: int, rng: random.Random) -> str:
    """About `tokens` tokens in the question's language. Whole sentences only, so it overshoots by half a sentence."""
    language = language_of(question)
    kind = kind_of(question)
    if kind == "label":
        return rng.choice(LABELS[language])
    topic = topic_of(question, language, rng)
    said = [rng.choice(OPENINGS[language]).format(topic=topic)]
    if kind == "code":
        said.append(f"\n\n{CODE[language]}\n\n")
    length = sum(map(estimate_tokens, said))
    while length < tokens:
        for sentence in _shuffled(SENTENCES[language], rng):
            if length >= tokens:
                break
            said.append(sentence.format(topic=topic))
            length += estimate_tokens(said[-1])
    return _joined(said, language)


def _shuffled(sentences: tuple[str, ...], rng: random.Random) -> list[str]:
    return rng.sample(sentences, len(sentences))


def _joined(said: list[str], language: Language) -> str:
    blank = "" if language == "zh" else " "
    return re.sub(r" *\n\n *", "\n\n", blank.join(said)).strip()
