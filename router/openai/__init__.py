"""OpenAI's wire format to our types and back: pure functions, no I/O.

Only here and in the providers do the wire's words (`prompt_tokens`, `finish_reason`) appear.
"""
