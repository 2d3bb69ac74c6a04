/* runs.c - tasks that came to be run: the memory that each takes, and what its frame says of it.
 *
 * A run of usual size (frame, views and names within RUN_BYTES) is one block, used again for a
 * later one: at most SPARES are kept. A larger one has parts of its own. Under the core mutex. */
#include <stdlib.h>
#include <string.h>

#include "core/core_int.h"

enum { RUN_BYTES = 1536, SPARES = 128 };

struct block {
    struct run run;
    struct frame_node node; /* its data fills the rest */
};

struct run *run_new(struct core *c, uint64_t src, const void *frame, uint32_t len) {
    bool small = len <= RUN_BYTES - sizeof(struct block);
    struct block *b = (void *)c->spare;

    if (small && b) {
        c->spare = b->run.next;
        c->spares--;
    } else
        b = malloc(small ? RUN_BYTES : sizeof *b);
    if (!b) return NULL;
    memset(&b->run, 0, offsetof(struct run, job));
    b->run.pooled = small;
    b->run.node = small ? &b->node : frame_keep(src, frame, len);
    if (!b->run.node) return free(b), NULL;
    if (small) {
        b->node = (struct frame_node){.src = src, .len = len};
        memcpy(b->node.data, frame, len);
    }
    return &b->run;
}

void run_release(struct core *c, struct run *r) {
    struct block *b = (void *)r;

    if (r->yield) yield_free(r);
    if (r->whose) { /* it had begun */
        *r->whose = r->other;
        if (r->other) r->other->whose = r->whose;
    }
    free(r->start);
    if (r->views != r->few_views) free(r->views);
    if (r->strings != r->few_strings) free(r->strings);
    if (!r->pooled) free(r->node);
    if (r->pooled && c->spares < SPARES) {
        r->next = c->spare;
        c->spare = r;
        c->spares++;
    } else
        free(b);
}

/* Those that nobody has begun, and the spare ones. */
void runs_free(struct core *c) {
    for (struct run *r = c->run_head, *next; r; r = next) {
        next = r->next;
        run_release(c, r);
    }
    c->run_head = NULL;
    while (c->spare) {
        struct block *b = (void *)c->spare;

        c->spare = b->run.next;
        free(b);
    }
    c->spares = 0;
}

/* The texts one behind the other, each with its NUL, in r->strings; out: where. */
static int join(struct run *r, const char *const *texts, const uint32_t *lens, char **out,
                uint32_t n) {
    size_t total = n;
    char *p;

    for (uint32_t i = 0; i < n; i++) total += lens[i];
    p = r->strings = total <= sizeof r->few_strings ? r->few_strings : malloc(total);
    if (!p) return -SKATE_ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        if (lens[i]) memcpy(p, texts[i], lens[i]);
        p[lens[i]] = 0;
        out[i] = p;
        p += lens[i] + 1;
    }
    return 0;
}

int run_describe(struct run *r, uint32_t ndeps) {
    const struct wire_task *m = (const void *)r->node->data;
    struct core_job *j = &r->job;
    const char *texts[5];
    uint32_t lens[5] = {0}, n = 2;
    char *out[5] = {NULL};

    r->views = r->few_views;
    if (ndeps + 1 > sizeof r->few_views / sizeof *r->few_views)
        r->views = calloc(ndeps + 1, sizeof *r->views);
    else
        memset(r->few_views, 0, (ndeps + 1) * sizeof *r->few_views);
    if (!r->views) return -SKATE_ENOMEM;
    j->incarnation = j->max_concurrency = 0;
    texts[0] = wire_task_name(m, &lens[0]);
    texts[1] = wire_task_method(m, &lens[1]);
    if (r->start) {
        const struct wire_actor_start *s = (const void *)r->start->data;

        texts[2] = wire_actor_start_name(s, &lens[2]);
        texts[3] = wire_actor_start_namespace(s, &lens[3]);
        texts[4] = wire_actor_start_cls(s, &lens[4]);
        n = 5;
        j->incarnation = s->incarnation;
        j->max_concurrency = s->max_concurrency;
    }
    if (join(r, texts, lens, out, n) < 0) return -SKATE_ENOMEM;
    j->new_lease = false;
    j->dep_count = 0;
    j->kind = r->start ? 2 : m->kind;
    j->task = m->task;
    j->actor = m->actor;
    j->fn = m->fn;
    j->returns = m->nreturns;
    j->attempt = m->attempt;
    j->flags = m->flags;
    j->name = out[0];
    j->method = out[1];
    j->actor_name = out[2];
    j->space = out[3];
    j->cls = out[4];
    j->frame = r;
    return 0;
}
