#!/bin/sh
# Rows of bench/micro/native.c: compiled as a user compiles, against the Skate of .venv.
# usage: bench/native/run.sh SECONDS (from the root of the repository)
set -e
skate=$(.venv/bin/python -c 'import skate, os; print(os.path.dirname(skate.__file__))')
export PKG_CONFIG_PATH="$skate/lib/pkgconfig"
mkdir -p build/bench
flags=$(pkg-config --cflags --libs skate)
cc -O2 -o build/bench/native bench/micro/native.c $flags
cc -O2 -shared -fPIC -o build/bench/native.so bench/micro/native.c $flags
exec build/bench/native "${1:-2}" "$PWD/build/bench/native.so"
