"""One client: start-up and authentication, simple and extended queries, COPY's client side, cancel keys.

Decides what the client reads, and when; what a statement does is `engine`'s. Imports `engine` and what is below.
"""
