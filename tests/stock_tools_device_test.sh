#!/usr/bin/env bash
# stock_tools_test.sh on a loop device. A test of its own, so that ctest shows
# when there was no device to run it on.
exec "$(dirname "$0")/stock_tools_test.sh" device
