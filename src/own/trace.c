/* trace.c - see trace.h. */
#include "own/trace.h"

#include <string.h>

#include "base/atomic.h"

void trace_init(struct trace *t, void *mapping, uint64_t proc) {
    t->header = mapping;
    t->slots = (struct trace_slot *)(void *)((uint8_t *)mapping + 4096);
    t->header->proc = proc;
    t->header->magic = TRACE_MAGIC;
}

struct trace_slot *trace_open(struct trace *t, uint64_t *ret_number) {
    uint64_t number = t->header->written + 1;
    struct trace_slot *s = &t->slots[number % TRACE_SLOTS];

    at_store(&s->number, 0);
    at_fence_release();
    memset((uint8_t *)s + sizeof s->number, 0, sizeof *s - sizeof s->number);
    *ret_number = number;
    return s;
}

struct trace_slot *trace_reopen(struct trace *t, uint64_t number) {
    struct trace_slot *s = &t->slots[number % TRACE_SLOTS];

    if (s->number != number) return NULL;
    at_store(&s->number, 0);
    at_fence_release();
    return s;
}

void trace_close(struct trace *t, struct trace_slot *s, uint64_t number) {
    if (s->state == TRACE_FINISHED) t->header->finished++;
    if (s->state == TRACE_FAILED || s->state == TRACE_LOST) t->header->failed++;
    at_store_release(&s->number, number);
    if (number > t->header->written) at_store_release(&t->header->written, number);
}

void trace_name(struct trace_slot *s, const char *name, const char *method) {
    size_t n = strnlen(name, sizeof s->name - 1), m;

    memcpy(s->name, name, n);
    if (method && !memchr(name, '.', n)) {
        m = strnlen(method, sizeof s->name);
        if (n + 1 + m < sizeof s->name) {
            s->name[n++] = '.';
            memcpy(s->name + n, method, m);
            n += m;
        }
    }
    s->name[n] = 0;
}

uint32_t trace_read(const void *first, const void *second, struct trace_slot *out, uint32_t max) {
    const struct trace_header *h = first;
    const uint8_t *a = (const uint8_t *)first + 4096, *b = (const uint8_t *)second + 4096;
    uint64_t last = h->written;
    uint32_t n = 0;

    if (h->magic != TRACE_MAGIC) return 0;
    for (uint64_t k = 0; k < TRACE_SLOTS && k < last && n < max; k++) {
        size_t at = (last - k) % TRACE_SLOTS * sizeof(struct trace_slot);

        memcpy(&out[n], a + at, sizeof *out);
        if (out[n].number != last - k || memcmp(a + at, b + at, sizeof *out) != 0) continue;
        out[n].name[sizeof out[n].name - 1] = 0;
        n++;
    }
    return n;
}
