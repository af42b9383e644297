#!/bin/sh
# A program that takes the two mounts as its first arguments.
program=$1
shift
exec "$program" "$A" "$B" "$@"
