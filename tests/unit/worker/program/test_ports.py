"""The port at which the processes of a program meet."""

import socket

from lvjobs.worker.program.directory import free_port


def test_a_port_that_is_taken_is_passed_over():
    assert any(map(passes_over_those_that_are_taken, range(4711, 4811, 10)))


def passes_over_those_that_are_taken(number):
    """Return False also where another process of this machine takes one of these ports, or frees one, meanwhile."""
    first = free_port(number)
    try:
        with socket.create_server(("", first)):
            second = free_port(number)
            with socket.create_server(("", second)):
                third = free_port(number)
    except OSError:
        return False
    return first < second < third and free_port(number) == first
