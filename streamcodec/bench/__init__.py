"""``streamcodec bench speed | live | drift | entropy | serve``: what streaming costs, what a window changes, what
entropy coding saves, and what a server carries.

A subcommand is a module of this package with `run(args)`, imported when it runs; `options` knows the options of all.
"""
