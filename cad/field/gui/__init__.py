"""The technician's page, served on the laptop's own loopback."""
