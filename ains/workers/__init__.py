"""What AINS does without being asked: dispatching, ending what is overdue, upkeep of the ledger."""
