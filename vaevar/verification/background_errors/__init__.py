"""Background errors compared: tables and figures."""
