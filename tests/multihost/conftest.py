import os
import socket
import subprocess
import sys

import pytest


@pytest.fixture
def by_two_processes():
    """Runs a script in two processes on the loopback, two devices each; what each printed.

    Its arguments are the coordinator's address, the process's number, and those given.
    """

    def run(script, *arguments):
        with socket.create_server(("127.0.0.1", 0)) as server:
            coordinator = f"127.0.0.1:{server.getsockname()[1]}"
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, coordinator, str(number), *arguments],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(2)
        ]
        told = [process.communicate(timeout=600)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        return told

    return run
