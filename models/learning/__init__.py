"""Learning from ratings, at night: in a process of its own, never beside what serves."""
