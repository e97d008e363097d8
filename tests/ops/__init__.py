"""Tests of the tensor functions."""
