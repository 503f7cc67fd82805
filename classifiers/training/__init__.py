"""How good is a classifier, and how is a better one made?

An `Example` is one prompt with what a small ("weak") and a large ("strong") model made of it; a *pair* is those two
models; a *stem* names prompts that ask the same thing and must not be split. This package reads examples, fits
classifiers to them and measures classifiers on them. It may import scikit-learn and matplotlib; what serves requests
never imports it.
"""
