"""Turn messages.def into the one codec of Skate: C structs, tables for the validator, and the
same tables for Python (rare control messages are built and read there).

usage: gen.py messages.def wire_gen.h wire_gen.c _wire_gen.py

A message is a fixed struct (head, scalars in order of size, then spans) followed by the bytes
that its spans point to. Scalars: u8 u16 u32 u64 i32 i64 id. Spans: bytes, str, T[] with T a
scalar, id or val. Alignment of every span is 8.
"""

import re
import sys
from pathlib import Path

SCALARS = {
    "id": (16, "struct skate_id", "16s"),
    "u64": (8, "uint64_t", "Q"),
    "i64": (8, "int64_t", "q"),
    "u32": (4, "uint32_t", "I"),
    "i32": (4, "int32_t", "i"),
    "u16": (2, "uint16_t", "H"),
    "u8": (1, "uint8_t", "B"),
}
ELEMENTS = {"bytes": 1, "str": 1, "val": 64} | {k: v[0] for k, v in SCALARS.items()}
HEAD = 16


class Message:
    """One message: its scalars in layout order, then its spans."""

    def __init__(self, name: str, number: int, fields: list[tuple[str, str]]) -> None:
        self.name, self.number = name, number
        self.scalars = [f for f in fields if f[0] in SCALARS]
        self.spans = [f for f in fields if f[0] not in SCALARS]
        self.scalars.sort(key=lambda f: -SCALARS[f[0]][0])
        offset, self.offsets = HEAD, {}
        for kind, field in self.scalars:
            self.offsets[field] = offset
            offset += SCALARS[kind][0]
        self.padding = -offset % 8
        offset += self.padding
        for _, field in self.spans:
            self.offsets[field] = offset
            offset += 8
        self.size = offset


def parse(text: str) -> list[Message]:
    """Read messages.def; a broken line ends the build with its number."""
    messages, current, numbers = [], None, set()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        if current is None:
            match = re.fullmatch(r"(\w+) (\d+) \{(.*)", line)
            if not match or int(match[2]) in numbers:
                sys.exit(f"messages.def:{number}: expected 'name number {{', got {line!r}")
            numbers.add(int(match[2]))
            current = (match[1], int(match[2]), [])
            line = match[3].strip()
        while line:
            if line.startswith("}"):
                messages.append(Message(*current))
                current, line = None, line[1:].strip()
                continue
            match = re.match(r"(\w+(?:\[\])?) (\w+);\s*", line)
            kind = match and match[1].removesuffix("[]")
            if not match or kind not in ELEMENTS or (kind == "val" and "[]" not in match[1]):
                sys.exit(f"messages.def:{number}: bad field in {line!r}")
            current[2].append((match[1], match[2]))
            line = line[match.end() :]
    return messages


def element(kind: str) -> int:
    """Bytes of one element of a span: a power of two, wire_check() relies on it."""
    size = ELEMENTS[kind.removesuffix("[]")]
    if size & (size - 1):
        sys.exit(f"messages.def: an element of {size} bytes is no power of two")
    return size


def header(messages: list[Message]) -> str:
    """The C structs."""
    out = ["/* Generated from messages.def. */", "#ifndef SKATE_WIRE_GEN_H",
           "#define SKATE_WIRE_GEN_H", '#include "wire/frame.h"', "enum wire_kind {"]
    out += [f"    WIRE_{m.name.upper()} = {m.number}," for m in messages]
    out += ["};"]
    for m in messages:
        out.append(f"struct wire_{m.name} {{")
        out.append("    struct wire_head head;")
        out += [f"    {SCALARS[k][1]} {f};" for k, f in m.scalars]
        if m.padding:
            out.append(f"    uint8_t pad_[{m.padding}];")
        out += [f"    struct wire_span {f};" for _, f in m.spans]
        out.append("};")
        out.append(f"_Static_assert(sizeof(struct wire_{m.name}) == {m.size}, \"layout\");")
        for kind, f in m.spans:
            if kind == "val[]":
                ctype = "struct wire_val"
            elif kind in ("bytes", "str"):
                ctype = "uint8_t" if kind == "bytes" else "char"
            else:
                ctype = SCALARS[kind.removesuffix("[]")][1]
            name = f"wire_{m.name}_{f}"
            out.append(f"static inline const {ctype} *{name}(const struct wire_{m.name} *m, "
                       "uint32_t *ret_count) {")
            out.append(f"    *ret_count = m->{f}.len / {element(kind)};")
            out.append(f"    return (const {ctype} *)(const void *)((const char *)m + m->{f}.off);")
            out.append("}")
    return "\n".join(out + ["#endif", ""])


def source(messages: list[Message]) -> str:
    """The table of the validator."""
    out = ["/* Generated from messages.def. */", '#include "wire/wire_gen.h"', ""]
    for m in messages:
        spans = ", ".join(f"{{{m.offsets[f]}, {element(k)}}}" for k, f in m.spans)
        if m.spans:
            out.append(f"static const struct wire_span_info spans_{m.name}[] = {{{spans}}};")
    top = max(m.number for m in messages)
    out.append(f"const uint32_t wire_info_count = {top + 1};")
    out.append(f"const struct wire_info wire_info[{top + 1}] = {{")
    for m in messages:
        spans = f"spans_{m.name}" if m.spans else "0"
        out.append(f'    [{m.number}] = {{"{m.name}", {m.size}, {len(m.spans)}, {spans}}},')
    return "\n".join(out + ["};", ""])


def python(messages: list[Message]) -> str:
    """The same tables for skate._wire."""
    out = ['"""Generated from messages.def."""', "", "MESSAGES = {"]
    for m in messages:
        scalars = tuple((f, SCALARS[k][2], m.offsets[f]) for k, f in m.scalars)
        spans = tuple((f, k, m.offsets[f]) for k, f in m.spans)
        out.append(f'    "{m.name}": ({m.number}, {m.size}, {scalars!r}, {spans!r}),')
    return "\n".join(out + ["}", ""])


def main() -> None:
    """Write the three outputs."""
    definitions, header_path, source_path, python_path = map(Path, sys.argv[1:])
    messages = parse(definitions.read_text())
    header_path.write_text(header(messages))
    source_path.write_text(source(messages))
    python_path.write_text(python(messages))


if __name__ == "__main__":
    main()
