"""`python -m router.cli.simulated`: the simulated models, as a server of their own on loopback."""

from __future__ import annotations

import argparse
import os

from router.providers.simulated import run_simulated


def main() -> None:
    parser = argparse.ArgumentParser(prog="router.cli.simulated")
    parser.add_argument("--fd", type=int, help="a listening socket to serve on")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    run_simulated(arguments.host, arguments.port, arguments.fd, parent_pid=os.getppid())


if __name__ == "__main__":
    main()
