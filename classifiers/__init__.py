"""How hard is a request?

A `Classifier` reads a `Prompt` (the whole conversation) and returns a `Classification`: a score in
[0, 1], a tier (`simple`, `moderate`, `complex`) and the signals behind them. This package knows no
money, no HTTP and no storage.
"""
