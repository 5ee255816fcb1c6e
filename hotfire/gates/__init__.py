"""What it means: pure functions from samples and events to outcomes. No I/O, no clock, no pytest, no cluster."""
