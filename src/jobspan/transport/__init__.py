"""How batches and their results cross a process boundary."""
