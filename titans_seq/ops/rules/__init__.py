"""What a learning rule consists of: bias, rates, retention, step, boundary."""
