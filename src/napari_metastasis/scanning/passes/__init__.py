"""What a scan does, pass by pass."""
