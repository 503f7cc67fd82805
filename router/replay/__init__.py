"""What a company's own logs say that routing would have spent: before anything is switched, and calling nobody.

A *log* is a file of *records*, one a request, in one of several *formats*. Reading makes `LoggedRequest`s of them;
what cannot be read is a *bad row*, counted and never fatal. A *judge* classifies and prices each request once; the
*sums* of what it found are enough for every *setting*, a quality target or an alias's own thresholds. All of it is
an estimate, and a `Forecast` says on which basis.

blocks of lines (`sources`) -> requests (`formats`) -> verdicts (`judge`) -> sums (`sums`) -> forecast (`forecast`)
"""
