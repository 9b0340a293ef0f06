"""Benchmarks that anyone can run: jobspan beside what a user would pick instead."""
