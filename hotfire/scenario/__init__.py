"""What is asked: the scenario file, its types, its loader and its lint."""
