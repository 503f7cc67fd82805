"""Delivery: reports leave the house, to a file, a store that speaks S3, or a webhook.

A *destination* is where a report goes; to *deliver* is to put it there once, whole or not at all, under a name that
a repeat replaces. The *scheduler* makes the reports of the configuration, each once for every finished *period*: the
writer that *claims* a period in SQL makes it, and one that died before it was done is followed by another.
"""
