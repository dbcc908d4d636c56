"""What a command does: pure decisions, one module a resource."""
