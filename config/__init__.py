"""Settings: schema, defaults, loading, checking; and every configuration file that ships."""
