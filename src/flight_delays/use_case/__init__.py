"""YOURS TO REPLACE: sources, features, label and model of this project."""
