"""What runs the contests, keeps their figures and draws them."""
