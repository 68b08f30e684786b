"""Loading and scheduling models, each in a process of its own."""
