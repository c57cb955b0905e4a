"""Fine-tuning a backbone on a table's labels, and the gates that a new one must pass before it is a model."""
