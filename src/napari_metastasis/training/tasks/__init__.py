"""What is learnt: a file a task, with its network, loss, metrics and step, and how its result is stored."""
