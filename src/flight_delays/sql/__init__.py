"""Tables, one .sql each; the `tables` task applies them. {schema} is the target schema."""
