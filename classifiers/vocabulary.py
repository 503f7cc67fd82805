"""The words the rules listen for, English and Chinese side by side: one kind per word.

Only instructions and domain words stand here. No word of reassurance does ("simple", "easy", "简单"): a prompt
must not be able to talk its own difficulty down.
"""

from __future__ import annotations

import re

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


# English words are bytes: folding and splitting UTF-8 takes half the time of a regex of words over the str.
# Digits fold to "0", so that numbers of up to twelve digits are words of their own here.
KIND_OF_WORD: dict[bytes, int] = {
    **{word.encode(): kind for word, kind in _kind_of(ENGLISH).items()},
    **{b"0" * digits: QUANTITY for digits in range(1, 13)},
}
KIND_OF_PAIR: dict[int, int] = {
    **{pairs_of(pair)[0]: kind for pair, kind in _kind_of(CHINESE).items()},
    pairs_of("\n求")[0]: MATHEMATICS,
}
ROUTINE_WORDS = _bytes_of(ENGLISH_ROUTINE)
COURTESY_WORDS = _bytes_of(ENGLISH_COURTESIES)
ROUTINE_CHINESE = _any_of(CHINESE_ROUTINE)
COURTESY_CHINESE = _any_of(CHINESE_COURTESIES)
