"""Commands about cards and readers."""
