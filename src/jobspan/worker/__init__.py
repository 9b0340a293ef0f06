"""What runs in a worker, the same for every backend."""
