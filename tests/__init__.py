"""Tests of the library, laid out as the library is."""
