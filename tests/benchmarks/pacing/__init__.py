"""A month of traffic under a budget that does not reach: first come, first served against a shadow price."""
