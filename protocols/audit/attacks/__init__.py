"""The catalogue, one attack a file, each with the build of this project on which it succeeds.

No product module imports this package.
"""
