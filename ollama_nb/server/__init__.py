"""HTTP: the one route table, its handlers, and the two places where they are mounted."""
