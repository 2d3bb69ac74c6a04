/* gcs_keep.c - see gcs_keep.h. */
#include "raylet/gcs_keep.h"

#include <stdlib.h>
#include <string.h>

#include "base/id.h"
#include "wire/frame.h"

/* Of a process of this node: its number is enough. */
static uint64_t key_of(uint64_t src, uint32_t call) {
    return (uint64_t)proc_number(src) << 32 | call;
}

static void append(struct kept_list *l, struct kept *f) {
    f->next = NULL;
    f->prev = l->last;
    if (l->last)
        l->last->next = f;
    else
        l->first = f;
    l->last = f;
}

static void take_out(struct kept_list *l, struct kept *f) {
    if (f->prev)
        f->prev->next = f->next;
    else
        l->first = f->next;
    if (f->next)
        f->next->prev = f->prev;
    else
        l->last = f->prev;
}

static void drop(struct gcs_keep *k, struct kept *f) {
    if (f->call && table_get(&k->calls, key_of(f->src, f->call)) == f)
        (void)table_take(&k->calls, key_of(f->src, f->call));
    if (k->unsent == f) k->unsent = f->next;
    take_out(f->waiting ? &k->asked : &k->sent, f);
    k->bytes -= f->len;
    free(f);
}

int gcs_keep_add(struct gcs_keep *k, const void *frame, uint32_t len, uint64_t src,
                 uint32_t call) {
    struct kept *f;

    if (k->bytes_max && k->bytes + len > k->bytes_max) return -SKATE_EFULL;
    f = malloc(sizeof *f + len);
    if (!f) return -SKATE_ENOMEM;
    *f = (struct kept){.src = src, .call = call, .len = len};
    memcpy(f->data, frame, len);
    /* A call number that is in use is a mistake of its process: the older one hears nothing. */
    if (call && (table_get(&k->calls, key_of(src, call)) ||
                 table_set(&k->calls, key_of(src, call), f) < 0))
        f->call = 0;
    append(&k->sent, f);
    if (!k->unsent) k->unsent = f;
    k->bytes += len;
    return 0;
}

void gcs_keep_sent(struct gcs_keep *k) {
    k->unsent->no = ++k->numbers;
    k->unsent = k->unsent->next;
}

void gcs_keep_got(struct gcs_keep *k, uint64_t count) {
    while (k->sent.first && k->sent.first->no && k->sent.first->no <= count) {
        struct kept *f = k->sent.first;

        if (!f->call) {
            drop(k, f);
            continue;
        }
        take_out(&k->sent, f);
        append(&k->asked, f);
        f->waiting = true;
    }
}

void gcs_keep_answered(struct gcs_keep *k, uint64_t src, uint32_t call) {
    struct kept *f = table_take(&k->calls, key_of(src, call));

    if (!f) return;
    f->call = 0;
    f->answered = true;
    if (f->waiting) drop(k, f); /* else its place counts until lane_got */
}

void gcs_keep_again(struct gcs_keep *k) {
    if (k->asked.last) {
        k->asked.last->next = k->sent.first;
        if (k->sent.first)
            k->sent.first->prev = k->asked.last;
        else
            k->sent.last = k->asked.last;
        k->sent.first = k->asked.first;
        k->asked = (struct kept_list){NULL, NULL};
    }
    for (struct kept *f = k->sent.first, *next; f; f = next) {
        next = f->next;
        f->waiting = false;
        if (f->answered) { /* done, or refused: said again it might not be that any more */
            drop(k, f);
            continue;
        }
        f->before |= f->no != 0;
        if (f->before) ((struct wire_head *)(void *)f->data)->flags |= WIRE_AGAIN;
        f->no = 0;
    }
    k->unsent = k->sent.first;
    k->numbers = 0;
}

void gcs_keep_forget(struct gcs_keep *k, uint64_t src) {
    for (struct kept *f = k->asked.first, *next; f; f = next) {
        next = f->next;
        if (f->src == src) drop(k, f);
    }
    for (struct kept *f = k->sent.first; f; f = f->next)
        if (f->src == src && f->call) {
            (void)table_take(&k->calls, key_of(src, f->call));
            f->call = 0;
        }
}

void gcs_keep_release(struct gcs_keep *k) {
    while (k->asked.first) drop(k, k->asked.first);
    while (k->sent.first) drop(k, k->sent.first);
    table_release(&k->calls);
}
