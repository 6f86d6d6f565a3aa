"""What every room stands on: types and shapes, means under masks, files that appear whole."""
