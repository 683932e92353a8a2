"""The tests of fbp."""
