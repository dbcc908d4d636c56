"""The portal's commands, a module for each resource, and how they are read."""
