#!/usr/bin/env python3
"""Benchmarks the program beside other caches on this machine. See docs/benchmark.md."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "benches"))

from bench import cli

sys.exit(cli.main())
