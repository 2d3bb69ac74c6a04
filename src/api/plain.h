/* plain.h - between skate_value (include/skate/value.h) and the values of the core.
 *
 * plain_out.c writes, plain_in.c reads. The bytes are those of python/ext/py_encode.c. What is read
 * comes from other processes: every length is checked. Any thread, one at a time for each struct;
 * blocks only where an argument is put first. Tests: tests/unit/api_plain_test.c. */
#ifndef SKATE_API_PLAIN_H
#define SKATE_API_PLAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "skate/value.h"

/* PLAIN_DEPTH: containers in containers, as Python's side has it. PLAIN_APART: an argument of so
 * many bytes is put first, so that it is copied once. */
enum { PLAIN_DEPTH = 48, PLAIN_SCRATCH = 1024, PLAIN_REFS = 8, PLAIN_APART = 64 << 10 };

/* ---- writing ---- */

/* A value as the core takes it: `v` after plain_encode() or plain_encode_args(). It points into the
 * skate_values, which must stay until plain_out_release(). Do not copy the struct. */
struct plain_out {
    struct core_value v;
    struct core_part parts[2];
    uint8_t *out;
    size_t len, cap;
    struct skate_id *refs, *deps, *puts; /* deps: of the slots; puts: those made by us */
    uint32_t ref_cap, dep_cap, dep_count, put_count, put_cap;
    bool heap;
    bool any_text; /* a str need not be UTF-8: paths */
    struct skate_id refs_fixed[PLAIN_REFS], deps_fixed[PLAIN_REFS];
    _Alignas(8) uint8_t scratch[PLAIN_SCRATCH];
};

void plain_out_init(struct plain_out *o);
/* Free what it holds; c: the core whose objects were put (may be NULL when none were). */
void plain_out_release(struct plain_out *o, struct core *c);
/* One value. -SKATE_EINVAL, -SKATE_ETYPE or -SKATE_ENOMEM with a reason. */
SKATE_NODISCARD int plain_encode(struct plain_out *o, const skate_value *v,
                                 struct skate_error *err);
/* The arguments of a call: refs become slots; tensors, Arrow streams, opaque and large values are
 * put and become slots. BLOCKS only when it puts. */
SKATE_NODISCARD int plain_encode_args(struct plain_out *o, struct core *c, const skate_value *args,
                                      size_t count, struct skate_error *err);
/* An array of plain values, nothing put, no refs: the arguments of a call in a batch. Appends. */
SKATE_NODISCARD int plain_append_array(struct plain_out *o, const skate_value *items, size_t count,
                                       struct skate_error *err);
/* Room for n more bytes of any kind; NULL: no memory. Then plain_close() makes them `v`. */
uint8_t *plain_room(struct plain_out *o, size_t n);
void plain_close(struct plain_out *o);
/* A list or map behind the head by which Python's unpack() knows it (py_mod.c): o->out, o->len. */
SKATE_NODISCARD int plain_pack(struct plain_out *o, const skate_value *v);
/* Bytes of the value in `o->v` as they will be stored. */
uint64_t plain_size(const struct plain_out *o);

/* ---- reading ---- */

enum plain_owned { PLAIN_HOLD = 1, PLAIN_PIN = 2, PLAIN_COUNTED = 4 };

/* A view as a value. Takes over view->pin, on failure too. What plain_release() gives back: memory,
 * the pin, and a count on each ref inside. id: the object that was read, which an opaque value
 * keeps; NULL: none. -SKATE_EPROTO: malformed. -SKATE_ENOMEM. */
SKATE_NODISCARD int plain_decode(struct core *c, const struct core_view *view,
                                 const struct skate_id *id, skate_value *ret);
void plain_release(struct core *c, skate_value *v);
/* The object that an opaque value came from; nil: unknown. */
struct skate_id plain_source(const skate_value *v);

/* The arguments of a job. Views and all they hold are valid until plain_args_close(). The struct
 * begins as zeros, and is used again for the next job without a new malloc; plain_args_free() at
 * the end. */
struct plain_args {
    const skate_value *v;
    uint32_t count;
    bool named; /* the last one is the map of named arguments */
    bool counted;
    void *memory;
    size_t cap, nodes;
};
/* args: one value; deps: those of its slots. -SKATE_ETYPE: a pickle, which only Python reads. */
SKATE_NODISCARD int plain_args_open(struct plain_args *a, struct core *c,
                                    const struct core_view *args, const struct core_view *deps,
                                    uint32_t dep_count);
void plain_args_close(struct plain_args *a, struct core *c);
void plain_args_free(struct plain_args *a);

#endif
