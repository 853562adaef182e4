"""How fast the API is, against bare handlers in the same run."""
