"""The `parsimony` command (`app.py`), and the processes that `serve` starts (`worker`, `writer`, `simulated`)."""
