"""How fast the ledger is written and reported from, and how much room a record takes, on each database."""
