"""What AINS is over HTTP: routes, problems, documentation."""
