"""What is learnt, task by task, and the one loop that trains it."""
