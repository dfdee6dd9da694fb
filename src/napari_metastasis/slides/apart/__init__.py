"""Compiled readers that run in processes of their own: damaged files end some of them, and the process with it.

``serving`` and the modules that are called as formats run there, without this package: they import NumPy, their library
and nothing else.
"""
