"""Tools of an auditor: what an adversary does, what it sees, and whether that is enough."""
