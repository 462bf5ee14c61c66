"""What is hidden, and how: rings, keystreams, keys, sealing, sharing, masks, integers to ring words.

Every module is usable alone and takes its randomness as an argument. This package never clips,
scales or adds noise (that is `dp`), knows no messages and no network (that is `protocols`), and
imports neither.
"""
