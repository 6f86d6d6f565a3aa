"""The base of all rooms: types, masked means, groups, and files that are written whole."""
