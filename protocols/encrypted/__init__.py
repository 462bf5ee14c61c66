"""Rounds under encryption: what a key custodian adds to the clients' and the server's machines (SPEC.md)."""
