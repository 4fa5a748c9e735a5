"""Capabilities that are written: RASP programs, compiled by Tracr, as weights of our Transformer.

Jain et al. 2024, §4 and App. C.1, G. ``capabilities`` offers the paper's two programs with a
measured exactness and noise, ``file`` compiles a program of the user's own. JAX and Tracr are only
imported when something has to be compiled; a cached capability loads without them.
"""
