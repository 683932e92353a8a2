"""The table of rules, a file per family."""
