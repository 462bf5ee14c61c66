"""Pairwise masking against an active server (Bonawitz et al. 2017). SPEC.md is the specification."""
