"""What the subcommands of `ains` do, one module for each."""
