#!/bin/sh
# Rows of bench/micro/heap_mixes.c: the store's allocator alone. Its length is a number of operations.
set -e
ninja -C build/py bench/micro/heap_mixes >/dev/null
exec build/py/bench/micro/heap_mixes
