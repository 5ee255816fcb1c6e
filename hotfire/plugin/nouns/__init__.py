"""The nouns that the suites speak of. Each observes through the packages below and writes what it saw as evidence."""
