/* fuzz_wire.c - the validator: what passes wire_check() can be read to its last byte, whatever it
 * says; what fuzz_frame() builds unharmed passes. */
#include "fuzz.h"

static uint64_t fuzz_sum;

static void touch(const uint8_t *p, size_t len) {
    for (size_t i = 0; i < len; i++) fuzz_sum += p[i];
}

static void read_frame(const uint8_t *frame, unsigned depth) {
    const struct wire_head *head = wire_head(frame);
    const struct wire_info *info = &wire_info[head->kind];

    touch(frame, info->fixed);
    for (uint32_t i = 0; i < info->span_count; i++) {
        struct wire_span s;
        struct resources r;

        memcpy(&s, frame + info->spans[i].offset, sizeof s);
        touch(frame + s.off, s.len);
        if (info->spans[i].element == sizeof(struct wire_val))
            fuzz_sum += (uint64_t)wire_check_vals((const void *)(frame + s.off),
                                                  s.len / (uint32_t)sizeof(struct wire_val), 99, 3);
        if (info->spans[i].element != 1) continue;
        if (resources_unpack(&r, frame + s.off, s.len) == 0) fuzz_sum += r.count;
        if (depth && wire_check(frame + s.off, s.len) == 0) read_frame(frame + s.off, depth - 1);
    }
    fuzz_sum += strlen(wire_name(head->kind));
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    uint64_t *copy = malloc(len + 1); /* exactly: one byte behind it is an error */
    struct wire_buf b;
    uint8_t *raw = copy ? realloc(copy, len ? len : 1) : NULL;
    uint32_t size = (uint32_t)len;

    if (!raw) return 0;
    memcpy(raw, data, len);
    if (len >= 4 && (data[0] & 1)) memcpy(raw, &size, sizeof size);
    if (wire_check(raw, len) == 0) read_frame(raw, 2);
    free(raw);
    wire_init(&b, NULL, 0);
    fuzz_frame(&in, fuzz_kind(&in), 3, &b);
    raw = malloc(b.len);
    if (raw) {
        memcpy(raw, b.p, b.len);
        if (wire_check(raw, b.len) == 0) read_frame(raw, 3);
        for (uint32_t cut = 0; cut < b.len; cut += 1 + b.len / 16)
            if (wire_check(raw, cut) == 0) abort();
        free(raw);
    }
    wire_release(&b);
    return 0;
}
