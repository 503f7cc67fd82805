"""The words the rules listen for, English and Chinese side by side: one kind per word.

Only instructions and domain words stand here. No word of reassurance does ("simple", "easy", "简单"): a prompt
must not be able to talk its own difficulty down.
"""

from __future__ import annotations

import re
from typing import Any

Words = dict[Any, int]

# A kind is its index in the counts that features.measure makes of a text.
KINDS = tuple(range(10))
CODE, MATHEMATICS, QUANTITY, CONSTRAINT, STEP, REASONING, PROOF, EXPLANATION, WRITING, FORMAT = KINDS

ENGLISH: dict[int, str] = {
    CODE: """
        def import const async await println printf stdout stderr null boolean struct lambda sql python java javascript
        typescript rust golang html css regex compile compiler exception traceback segfault api endpoint kubernetes
        docker bug code codebase algorithm algorithms array loop recursion recursive script string strings database
        query queries schema thread threads mutex deadlock deadlocks int bool str elif nullpointerexception
        microservice microservices concurrency backend frontend refactor function functions unittest pytest cache
        latency idempotent""",
    MATHEMATICS: """
        equation equations theorem lemma corollary integral integrals derivative polynomial matrix matrices vector
        vectors probability triangle calculate compute solve frac sqrt sin cos tan log ln infty alpha beta theta cdot
        leq geq prod mathbb mathrm integer integers prime primes modulo converge converges convergence eigenvalue
        subspace perpendicular radius perimeter quadratic irrational rational divisible denominator numerator
        coefficient logarithm inequality permutation permutations combinatorics arithmetic algebra geometry calculus
        isomorphic homomorphism subgroup""",
    QUANTITY: "total twice thrice per percent percentage ratio average remaining altogether",
    CONSTRAINT: """
        must least without exactly only exceed exceeds exceeding within limit limited limits maximum minimum ensure
        ensuring required requirement requirements constraint constraints cannot avoid unless never satisfy satisfies
        strictly mandatory guarantee guarantees tolerate""",
    STEP: "first second third then next finally afterwards step steps lastly followed subsequently stage stages phase",
    REASONING: """
        design architect architecture analyze analyse analysis evaluate optimize optimise implement implementation
        debug compare contrast critique justify strategy strategies tradeoff tradeoffs offs investigate diagnose assess
        infer deduce formulate simulate synthesize reconcile rigorous rigorously hypothesis implications feasibility
        deduction""",
    PROOF: "prove proof disprove derive derivation counterexample contradiction induction",
    EXPLANATION: """
        why how explain discuss describe reason reasoning reasons interpret cause causes relate relationship difference
        differences argue elaborate detailed thorough comprehensive consequences impact""",
    WRITING: """
        essay story poem novel article report proposal blog screenplay speech song lyrics dialogue letter
        itinerary curriculum plan roadmap""",
    FORMAT: """
        json table tables markdown csv bullet bullets yaml xml words paragraph paragraphs sentences format formatted
        column columns heading headings sections""",
}

# Chinese is read in pairs of neighbouring characters, most words being two long: one dictionary look-up a character,
# where a regex of alternatives pays for every alternative at every hit. A longer word stands by the pair that tells it
# apart (为什么 by 为什, 不超过 by 不超), and 求 ("find") by the punctuation before it or what is asked for after it,
# which keeps 要求, 请求 and 需求 out.
CHINESE: dict[int, str] = {
    CODE: """
        代码 编程 程序 算法 据库 接口 报错 异常 堆栈 线程 并发 死锁 编译 递归 脚本 变量 数组 查询 后端 前端 微服 缓存
        幂等 延迟 分布 高可 单元""",
    MATHEMATICS: """
        ，求 。求 ；求 ,求 求解 求出 求值 求导 求最 方程 等式 函数 数列 概率 几何 三角 椭圆 抛物 双曲 导数 积分 矩阵
        向量 定理 引理 计算 坐标 面积 体积 整数 质数 素数 有理 无理 实数 极限 大值 小值 取值 单调 收敛 整除 排列 组合
        直线 已知 奇数 偶数""",
    QUANTITY: "多少 几个 几小 几天 一共 总共 平均 每天 每小 每分 每秒 每次 每人 每个 百分 比例 剩下 两倍",
    CONSTRAINT: """
        必须 至少 至多 最多 不超 不少 不得 不能 只能 不要 不可 不允 确保 保证 要求 限制 满足 除非 以内 之内 恰好 严格
        避免 禁止 务必 约束 上限 下限""",
    STEP: "首先 其次 然后 接着 再次 最后 随后 步骤 依次 第一 第二 第三 分步 逐步 接下 阶段",
    REASONING: """
        设计 分析 评估 评价 优化 权衡 实现 调试 排查 比较 对比 论证 论述 架构 方案 策略 重构 诊断 推断 推理 制定
        利弊 优缺 可行""",
    PROOF: "证明 求证 推导 反例 反证 归纳 证伪",
    EXPLANATION: "为什 为何 如何 怎么 怎样 解释 原因 阐述 讨论 区别 关系 影响 理由 详细 深入 全面 后果 原理",
    WRITING: "作文 小说 故事 首诗 报告 演讲 剧本 文章 策划 计划 规划 博客 论文 歌词",
    FORMAT: "表格 格式 列表 个字 字以 字左 段落 大纲 标题 分点",
}

# What the trained model counts besides. A word may be of a kind and of a class.
CLASSES = tuple(range(7))
PERSON, NEGATION, CONDITION, STATEMENT, RECALL, NUMBER, ASK = CLASSES

ENGLISH_CLASSES: dict[int, str] = {
    PERSON: """he she his her him hers they them their i my me we our us you your yourself himself herself someone man
        woman boy girl patient plaintiff defendant""",
    NEGATION: "not no nor never except without unless t cannot neither none least incorrect false wrong",
    CONDITION: """if when suppose assume assuming given let each every per after before than while whenever until
        provided otherwise whether although because""",
    STATEMENT: "statement statements true assertion conclusion premise argument",
    RECALL: "who whom whose where year named invented wrote founded born capital",
    NUMBER: """one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred thousand
        half third quarter double triple dozen""",
    ASK: "calculate compute find determine evaluate solve total remaining altogether average",
}
CHINESE_CLASSES: dict[int, str] = {
    PERSON: "他的 她的 我们 你们 他们 自己 被告 原告 患者 某某 小明 老师",
    NEGATION: "不是 不正 不属 没有 并非 除了 错误 不能 不会 不符 无法 不当 未能",
    CONDITION: "如果 假设 若是 已知 当时 之后 之前 每个 因为 由于 否则 只有 虽然 那么 除非",
    STATEMENT: "说法 判断 论点 结论 前提 观点 叙述 表述",
    RECALL: "谁是 哪位 哪里 何时 哪年 首都 作者 发明",
    NUMBER: "一半 两个 三个 四个 五个 两倍 三倍 十个 百分",
    ASK: "求出 计算 求解 多少 几个 一共 总共 平均 剩下 总和 ，求 求证",
}

# A plain question ("what is", 是什么) is not listed: with nothing else in it, it stands at the base score anyway.
ENGLISH_ROUTINE = """
    translate translation extract classify define spell summarize summarise summary rewrite rephrase paraphrase
    proofread convert label categorize categorise sentiment synonym synonyms antonym grammar capitalize"""
CHINESE_ROUTINE = """
    翻译 译成 译为 提取 抽取 分类 归类 哪一类 什么意思 总结 概括 摘要 改写 润色 定义 同义词 反义词 拼音
    错别字 情感 标注"""
ENGLISH_COURTESIES = "hello hi hey thanks thank bye goodbye morning"
CHINESE_COURTESIES = "你好 您好 谢谢 多谢 再见 早上好 晚上好 辛苦了"


def pairs_of(text: str) -> list[int]:
    """Each two neighbouring UTF-16 units as one number, those at even places first: half the cost of strings."""
    raw = text.encode("utf-16-le", "surrogatepass")
    even = memoryview(raw)[: len(raw) // 4 * 4]
    odd = memoryview(raw)[2:][: (len(raw) - 2) // 4 * 4] if raw else even
    return even.cast("I").tolist() + odd.cast("I").tolist()


def _kind_of(words_of_kind: dict[int, str]) -> dict[str, int]:
    return {word: kind for kind, words in words_of_kind.items() for word in words.split()}


def _bytes_of(words: str) -> frozenset[bytes]:
    return frozenset(word.encode() for word in words.split())


def _any_of(words: str) -> re.Pattern[str]:
    return re.compile("|".join(words.split()))


def _marks(kinds: Words, classes: Words) -> dict[Any, int]:
    """A mark for each word: which kind and which class it is of, in one byte that is never 0."""
    return {word: _mark(kinds.get(word), classes.get(word)) for word in {**kinds, **classes}}


def _mark(kind: int | None, word_class: int | None) -> int:
    of_kind, of_class = (-1 if one is None else one for one in (kind, word_class))
    return (of_kind + 1) * (len(CLASSES) + 1) + of_class + 1


# English words are bytes: folding and splitting UTF-8 takes half the time of a regex of words over the str.
# Digits fold to "0", so that numbers of up to twelve digits are words of their own here.
_KIND_OF_WORD: Words = {
    **{word.encode(): kind for word, kind in _kind_of(ENGLISH).items()},
    **{b"0" * digits: QUANTITY for digits in range(1, 13)},
}
_KIND_OF_PAIR: Words = {
    **{pairs_of(pair)[0]: kind for pair, kind in _kind_of(CHINESE).items()},
    pairs_of("\n求")[0]: MATHEMATICS,
}
MARK_OF_WORD: dict[bytes, int] = _marks(
    _KIND_OF_WORD, {word.encode(): one for word, one in _kind_of(ENGLISH_CLASSES).items()}
)
MARK_OF_PAIR: dict[int, int] = _marks(
    _KIND_OF_PAIR, {pairs_of(pair)[0]: one for pair, one in _kind_of(CHINESE_CLASSES).items()}
)
# Tables for bytes.translate, from marks to one more than the kind or the class, 0 where there is none.
KIND_OF_MARK = bytes(min(mark // (len(CLASSES) + 1), len(KINDS)) for mark in range(256))
CLASS_OF_MARK = bytes(mark % (len(CLASSES) + 1) for mark in range(256))
ROUTINE_WORDS = _bytes_of(ENGLISH_ROUTINE)
COURTESY_WORDS = _bytes_of(ENGLISH_COURTESIES)
ROUTINE_CHINESE = _any_of(CHINESE_ROUTINE)
COURTESY_CHINESE = _any_of(CHINESE_COURTESIES)
