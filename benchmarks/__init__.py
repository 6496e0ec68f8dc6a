"""What `make bench` measures: each module's `measure()` returns the text of its page in docs/benchmarks."""
