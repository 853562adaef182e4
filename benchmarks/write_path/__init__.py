"""What the ledger costs those who write."""
