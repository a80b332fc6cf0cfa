"""Runs kernels of a compiled library one by one, in a process that may crash: ``python kernel_child.py JOB``.

A plain script: it imports nothing of AINO and no numpy, so that it starts in a few hundredths of a second.
JOB is a JSON file: ``library`` (path), ``table`` (an exported array of kernels), ``data`` (a file that is
mapped and holds everything that kernels read and write), and ``calls``, each with the kernel's ``number``
in the table, byte offsets of its ``views`` in the data, values of its ``symbols``, the offset of its
``scratch`` and the ranges of units (``spans``) to run in order.  The first eight bytes of the data count
the calls that are done: who finds fewer knows which kernel crashed.

A call with ``time`` is timed instead, by the library's ``trial_time`` with the numbers given there, and
the result, in nanoseconds, is put at the offset ``result``.
"""

import ctypes
import json
import mmap
import sys


def main(path: str) -> int:
    """Run every call."""
    with open(path, encoding="ascii") as file:
        job = json.load(file)
    with open(job["data"], "r+b") as file:
        memory = mmap.mmap(file.fileno(), 0)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    done = ctypes.c_int64.from_buffer(memory)
    library = ctypes.CDLL(job["library"])
    table = (ctypes.c_void_p * job["kernels"]).in_dll(library, job["table"])
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kernel_type = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, number, number)
    for count, call in enumerate(job["calls"]):
        kernel = kernel_type(table[call["number"]])
        views = (pointer * max(1, len(call["views"])))(*(base + offset for offset in call["views"]))
        symbols = (number * max(1, len(call["symbols"])))(*call["symbols"])
        places = ctypes.addressof(views), ctypes.addressof(symbols), base + call["scratch"]
        for low, high in call["spans"]:
            kernel(*places, low, high)
        if "time" in call:
            timed = ctypes.CFUNCTYPE(number, number, *[pointer] * 3, *[number] * 5)(("trial_time", library))
            nanoseconds = timed(call["number"], *places, *call["time"])
            number.from_buffer(memory, call["result"]).value = nanoseconds
        done.value = count + 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
