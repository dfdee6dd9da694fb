"""What runs a dense network: torch or OpenVINO, and how one of them is chosen."""
