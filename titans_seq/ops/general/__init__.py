"""The chunked and exact forms of the memory in plain torch, for any rule."""
