"""Exports: a report's table as a file for other programs, or for people who have no Parsimony at hand.

`formats` names the formats; each has a module: `parquet` (typed columns, exact amounts), `focus` (line items as the
FinOps Foundation's FOCUS names them), `page` (one HTML file that needs nothing else, with the `pictures` in it).
"""
