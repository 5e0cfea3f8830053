"""The port at which the processes of a program meet."""

import socket

from lvjobs.worker.program.directory import free_port


def test_a_port_that_is_taken_is_passed_over():
    first = free_port(4711)
    with socket.create_server(("", first)):
        second = free_port(4711)
        assert second != first
        with socket.create_server(("", second)):
            assert free_port(4711) not in (first, second)
    assert free_port(4711) == first
