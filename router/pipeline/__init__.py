"""The path of one request; `chat.py` is the straight line, and each stage has a file.

parse → authenticate → share (identical requests in flight) → classify → decide → admit (cache
look-up and reservation in one atomic step) → dispatch → respond → settle.
"""
