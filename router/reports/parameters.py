"""`WrongParameter`: what is amiss in a question, and in which of its parts."""

from __future__ import annotations


class WrongParameter(ValueError):
    """The message is a sentence for whoever asked; `param` is what the admin API and the command line call the part."""

    def __init__(self, param: str, sentence: str) -> None:
        super().__init__(sentence)
        self.param = param
