"""Tests of the Model Garden plug-in."""
