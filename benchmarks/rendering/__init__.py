"""What it costs to show many series, and what the API notices of it."""
