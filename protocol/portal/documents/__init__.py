"""The documents made from the messages' models: JSON Schemas, the AsyncAPI page, examples."""
