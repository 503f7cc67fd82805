"""Alerts: people are told when a budget's use reaches a share of its limit, once a window.

A share is *claimed* in SQL, by one process of all, with the *event* to be told. The `Alerter` logs it and hands it to
the `Courier`, which posts it to every *webhook*, patiently, in a thread of its own. What has been told is *confirmed*;
a claim whose process died before that is taken over and told again, under the same id. So an alert arrives at least
once, and receivers can tell a repeat by its id.
"""
