"""The traffic: a plan drawn from one seed, a carrier in a process of its own, raw streams, samples, a client check, marks.

`hotfire.load.run` is the side of the parent. Nothing here imports locust but the subprocess `python -m hotfire.load`.
"""
