"""What a scrape costs, and what it does not depend on."""
