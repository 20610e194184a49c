"""The memory as the paper writes it, token by token: the reference of every test."""
