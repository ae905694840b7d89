"""The parts that every shape is built from. Each takes plain numbers; who chooses them lives in `models`."""
