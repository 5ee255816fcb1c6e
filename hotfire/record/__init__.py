"""What was seen: typed, redacted, hash-chained events in `record.jsonl`; reports and verdict are made from it alone."""
