"""What the command line, the window and a cluster run: scan, train, evaluate."""
