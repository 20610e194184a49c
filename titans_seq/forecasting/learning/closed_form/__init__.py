"""What is solved before training: linear maps, profiles and calendar effects."""
