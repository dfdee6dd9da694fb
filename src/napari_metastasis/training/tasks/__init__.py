"""What is learnt: a file a task, each with its network, loss, metrics and step."""
