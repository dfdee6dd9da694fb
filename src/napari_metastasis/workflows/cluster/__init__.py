"""Scans on several processes and machines, by dask.distributed. Importing it loads neither that nor torch."""
