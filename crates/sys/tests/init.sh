#!/bin/sh
# Pid 1 of a rig: called with "init -- PROGRAM ARGUMENTS".
shift 2
"$@"
