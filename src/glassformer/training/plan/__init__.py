"""What a run will take before it runs: parameters, memory, disk and time here, what to change to fit, and what to expect."""
