"""SCP03, the secure channel of GlobalPlatform Amendment D: keys, the protected channel, and its two ends."""
