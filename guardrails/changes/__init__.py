"""How each family of actions becomes requests: one module per family, all pure."""
