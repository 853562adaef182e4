"""Models and rules, without any I/O."""
