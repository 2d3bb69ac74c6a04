/* why.c - see why.h. */
#include "wire/why.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void why_edge_add(struct why_fact *f, uint64_t proc, enum why_kind kind, struct skate_id id) {
    if (f->edge_count == WHY_EDGES) {
        f->cut = true;
        return;
    }
    f->edges[f->edge_count++] = (struct why_edge){.proc = proc, .kind = kind, .id = id};
}

void why_say(struct why_fact *f, const char *format, ...) {
    size_t used = strlen(f->text);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(f->text + used, sizeof f->text - used, format, args);
    va_end(args);
}

void why_pack(const struct why_fact *f, uint32_t call, struct wire_buf *b) {
    struct wire_why_info *m = wire_begin(b, WIRE_WHY_INFO);

    m->head.call = call;
    m->head.flags = WIRE_REPLY;
    m->self = f->self;
    m->end = f->end;
    m->any = f->any;
    m->cut = f->cut;
    m->pid = f->pid;
    WIRE_PUT(b, why_info, edges, f->edges, f->edge_count * sizeof *f->edges);
    WIRE_PUT(b, why_info, text, f->text, strlen(f->text));
}

void why_unpack(const struct wire_why_info *m, struct why_fact *ret) {
    uint32_t words, len;
    const uint64_t *edges = wire_why_info_edges(m, &words);
    const char *text = wire_why_info_text(m, &len);

    memset(ret, 0, sizeof *ret);
    ret->self = m->self;
    ret->end = m->end <= WHY_UNKNOWN ? m->end : WHY_UNKNOWN;
    ret->any = m->any != 0;
    ret->cut = m->cut != 0;
    ret->pid = m->pid;
    for (uint32_t i = 0; i + 4 <= words && ret->edge_count < WHY_EDGES; i += 4) {
        struct why_edge *e = &ret->edges[ret->edge_count];

        memcpy(e, edges + i, sizeof *e);
        if (e->kind <= WHY_START) ret->edge_count++;
    }
    if (len >= sizeof ret->text) len = sizeof ret->text - 1;
    memcpy(ret->text, text, len);
    for (uint32_t i = 0; i < len; i++) /* a line of the chain is one line */
        if ((unsigned char)ret->text[i] < ' ') ret->text[i] = ' ';
}
