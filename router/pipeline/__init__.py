"""The path of one request; `chat.py` is the straight line, and each stage has a file.

authenticate → parse → classify and decide → share (identical requests in flight) → admit (cache
look-up and reservation in one atomic step) → dispatch → respond → settle.
"""
