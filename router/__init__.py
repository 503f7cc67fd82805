"""The proxy: everything that does I/O.

The path of one request, a straight line (`pipeline/chat.py`):

authenticate the key; parse the body; classify how hard it is and decide on a chain of deployments;
share the answer of an identical request in flight; admit (look up the cache and hold the dearest
outcome in every budget, one script in Redis); dispatch along the chain; respond, relaying bytes as
they come; settle (give back, book the cost, append the record, store the answer, one script again).
A cache hit goes from admit to settle. Whatever happens, a request that was accepted is settled once.

`cli` starts processes, `bootstrap` chooses the concrete classes, `app` and `api` speak HTTP,
`pipeline` does the work over `providers` and `stores`, `openai` knows the wire, `reports` reads the
ledger. Importing any module does nothing.
"""
