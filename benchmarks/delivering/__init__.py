"""benchmarks/webhooks: what a healthy endpoint notices of others that are in trouble."""
