"""The portal's side over MQTT: topics, commands, replies, events, and the stable codes of the answers."""
