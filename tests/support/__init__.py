"""Helpers of the tests: databases on embedded servers, and a proxy in front of them."""
