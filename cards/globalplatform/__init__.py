"""GlobalPlatform: secure channel SCP03, card management commands, and the chip's card manager."""
