"""The scheduler: one single-threaded loop over an executor, and the decisions it asks for."""
