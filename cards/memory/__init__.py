"""What a card remembers without power, and the rules by which it changes."""
