"""Learners, a file each: it fits, and travels with each version that it made. None imports anything of this project."""
