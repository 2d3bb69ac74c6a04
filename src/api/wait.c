/* wait.c - objects: put, get, wait, refs; and what an error value means in C.
 *
 * A driver's wait is cut into slices so that skate_interrupt() is seen by threads that no signal
 * wakes; a worker's is not, since each is told to its raylet. Tests: tests/c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "base/atomic.h"
#include "core/cancel.h"
#include "core/inspect.h"
#include "wire/frame.h"
#include "core/core_room.h"

enum { SLICE_MS = 100, REASON_BYTES = 4000, FEW = 64 };

static int64_t now_ns(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- errors ---- */

static int code_of_kind(const char *kind, size_t n) {
    static const struct {
        const char *kind;
        int code;
    } table[] = {
        {"worker_crashed", SKATE_ECRASH},   {"node_died", SKATE_ECRASH},
        {"out_of_memory", SKATE_ECRASH},    {"actor_oom", SKATE_EACTOR},
        {"actor_oom_again", SKATE_EACTOR},
        {"actor_died", SKATE_EACTOR},       {"actor_unavailable", SKATE_EACTOR},
        {"actor_pg_removed", SKATE_EACTOR}, {"actor_unschedulable", SKATE_EACTOR},
        {"task_cancelled", SKATE_ECANCELLED}, {"pg_removed", SKATE_ECANCELLED},
        {"unschedulable", SKATE_ECANCELLED},  {"owner_died", SKATE_ELOST},
        {"object_lost", SKATE_ELOST},       {"out_of_scope", SKATE_ELOST},
        {"not_rebuilt", SKATE_ELOST},       {"raylet_died", SKATE_EDEAD},
        {"store_full", SKATE_EFULL},        {"stream_end", SKATE_ENOENT},
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].kind) == n && !memcmp(table[i].kind, kind, n)) return -table[i].code;
    return -SKATE_ETASK;
}

/* "kind words\ntext" */
static int system_error(const char *data, size_t size) {
    const char *line = memchr(data, '\n', size), *space;
    size_t head = line ? (size_t)(line - data) : size, kind = head;
    int code;

    space = memchr(data, ' ', head);
    if (space) kind = (size_t)(space - data);
    code = code_of_kind(data, kind);
    if (!line || line + 1 == data + size)
        return api_fail(code, "%s: %.*s", skate_strerror(code), (int)head, data);
    line++;
    size -= (size_t)(line - data);
    if (code == -SKATE_EACTOR && (size < 9 || memcmp(line, "The actor", 9) != 0))
        return api_fail(code, "The actor %s: %.*s",
                        kind == 10 ? "is dead" : "cannot be reached", (int)size, line);
    if (code == -SKATE_ECANCELLED)
        return api_fail(code, "the task was cancelled: %.*s", (int)size, line);
    return api_fail(code, "%.*s", (int)size, line);
}

/* The map that a worker has made of what its function raised. */
static int task_error(const skate_value *v) {
    const skate_value *text = skate_map_find(v, "traceback"), *type = skate_map_find(v, "type");
    const skate_value *failed = skate_map_find(v, "init_failed");
    const skate_value *what = skate_map_find(v, "function"), *pid = skate_map_find(v, "pid");
    int code = -SKATE_ETASK;

    if (failed && failed->kind == SKATE_BOOL && failed->as.b) code = -SKATE_EACTOR;
    if (text && text->kind == SKATE_STR && text->as.s.size) {
        size_t n = text->as.s.size;

        while (n && text->as.s.data[n - 1] == '\n') n--;
        return api_fail(code, "%s%s() failed in process %lld:\n%.*s",
                        code == -SKATE_EACTOR ? "The actor died because its constructor failed: "
                                              : "",
                        what && what->kind == SKATE_STR ? what->as.s.data : "the task",
                        pid && pid->kind == SKATE_INT ? (long long)pid->as.i : 0, (int)n,
                        text->as.s.data);
    }
    if (type && type->kind == SKATE_STR)
        return api_fail(code, "the task failed with %s", type->as.s.data);
    return api_fail(code, "the task failed, and does not say why");
}

int api_error_of(skate_session *s, const struct core_view *view) {
    skate_value v;
    int r;

    if (view->flags & VAL_SYSTEM) {
        r = system_error(view->data, view->size);
        if (view->pin) core_unpin(s->c, view->pin);
        return r;
    }
    if (plain_decode(s->c, view, NULL, &v) < 0)
        return api_fail(-SKATE_ETASK, "the task failed with an error that cannot be read");
    r = task_error(&v);
    plain_release(s->c, &v);
    return r;
}

/* ---- waiting ---- */

struct span {
    int64_t began, deadline; /* INT64_MAX: for ever */
    uint32_t interrupts;
};

static struct span span_of(skate_session *s, int64_t timeout_ms) {
    struct span t = {now_ns(), INT64_MAX, at_load_seq(&s->interrupts)};

    if (timeout_ms >= 0 && timeout_ms < INT64_MAX / 4000000)
        t.deadline = t.began + timeout_ms * 1000000;
    return t;
}

/* core_wait that goes on after signals. The number ready, or negative with words. */
static int wait_ready(skate_session *s, const struct skate_id *ids, uint32_t n, uint32_t need,
                      const struct span *t, unsigned flags, uint8_t *ready) {
    for (;;) {
        int64_t left = t->deadline == INT64_MAX ? -1 : t->deadline - now_ns(), slice;
        int r;

        if (t->deadline != INT64_MAX && left < 0) left = 0;
        slice = left;
        if (!s->worker && (left < 0 || left > SLICE_MS * 1000000)) slice = SLICE_MS * 1000000;
        r = core_wait(s->c, ids, n, need, slice, flags, ready);
        if (r < 0 && r != -SKATE_EINTR) return api_fail_in(s, r, NULL);
        if (r < 0 && s->worker && core_cancelled(s->c))
            return api_fail(-SKATE_ECANCELLED, "this task was cancelled while it waited");
        if (r >= 0 && ((uint32_t)r >= need || slice == left)) return r;
        if (at_load_seq(&s->interrupts) != t->interrupts)
            return api_fail(-SKATE_EINTR, "skate_interrupt() was called");
        if (r > 0 && (flags & CORE_STOP_ON_ERROR)) return r; /* perhaps because of an error */
    }
}

/* "depth end kind node process pid id sentence" lines to words; the end of a timeout's text. */
static void append_chain(char *chain, char *out, size_t cap) {
    char *save = NULL;
    size_t at = strlen(out);

    for (char *line = strtok_r(chain, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *text = line;
        const char *label = "";
        int depth = (int)strtol(line, NULL, 10), kind = -1;

        if (*line == '=') {
            if (line[1] == '1')
                label = "\nThis is a deadlock: the chain comes back to where it was. It will not "
                        "end.";
            if (line[1] == '2')
                label = "\nThis cannot end: no node of the cluster can ever meet the demand.";
            (void)snprintf(out + at, cap - at, "%s", label);
            return;
        }
        for (int i = 0; i < 7 && text; i++) {
            text = strchr(text, '\t');
            if (text) text++;
            if (i == 1 && text) kind = (int)strtol(text, NULL, 10);
        }
        if (!text) continue;
        if (kind == 0) label = "the object: ";
        if (kind == 3) label = "the demand: ";
        at += (size_t)snprintf(out + at, cap - at, "\n%*s%s%s", 2 * (depth > 0 ? depth - 1 : 0), "",
                               label, text);
        if (at >= cap) {
            (void)snprintf(out + cap - 5, 5, "\n...");
            return;
        }
    }
}

static int fail_timeout(skate_session *s, const struct skate_id *missing, const struct span *t,
                        uint32_t done, uint32_t count) {
    int64_t waited = now_ns() - t->began, ask = waited / 4 + 100000000;
    struct core_why_ask why = {.ids = missing, .count = 1, .waited_ns = waited};
    char *chain = malloc(CORE_WHY_BYTES), *text = malloc(REASON_BYTES);
    char what[64];
    int r;

    /* Who polls with a short timeout wants no questions asked all over the cluster. */
    if (waited >= 50000000) why.timeout_ns = ask < 1000000000 ? ask : 1000000000;
    (void)snprintf(what, sizeof what, count == 1 ? "the object is" : "%u of %u objects are",
                   count - done, count);
    if (text) text[0] = 0;
    if (chain && text && core_why(s->c, &why, chain) == 0) append_chain(chain, text, REASON_BYTES);
    r = api_fail(-SKATE_ETIMEOUT, "%s not ready after %.3f s; the tasks go on%s%s", what,
                 (double)waited / 1e9, text && text[0] ? ". What it waits for:" : "",
                 text ? text : "");
    free(chain);
    free(text);
    return r;
}

/* ---- get ---- */

/* 1: *ret is the value; 0: it is not ready; negative: there is none, with words. */
static int read_one(skate_session *s, const struct skate_id *id, skate_value *ret) {
    uint8_t copy[LIMIT_INLINE_VALUE] __attribute__((aligned(64)));
    struct core_view view;
    int r = core_read(s->c, id, copy, &view);

    if (r == -SKATE_EAGAIN) return 0;
    if (r < 0) return api_fail_in(s, r, NULL);
    if (view.flags & VAL_ERROR) return api_error_of(s, &view);
    r = plain_decode(s->c, &view, id, ret);
    if (r == -SKATE_EPROTO) return api_fail(r, "the object holds no value that can be read");
    return r < 0 ? api_fail_in(s, r, NULL) : 1;
}

int skate_get(skate_session *s, skate_ref ref, int64_t timeout_ms, skate_value *ret) {
    struct skate_id id = api_id(ref);
    struct span t;
    uint8_t ready;
    int r;

    if (id_is_nil(&id)) return api_fail(-SKATE_EINVAL, "the ref is empty (both numbers are 0)");
    r = read_one(s, &id, ret);
    if (r) return r < 0 ? r : 0;
    t = span_of(s, timeout_ms);
    for (;;) {
        r = wait_ready(s, &id, 1, 1, &t, CORE_FETCH, &ready);
        if (r == 0) return fail_timeout(s, &id, &t, 0, 1);
        if (r > 0) r = read_one(s, &id, ret);
        if (r) return r < 0 ? r : 0;
    }
}

/* taken[i] 1: ret[i] is there. An error among them ends it at once. */
static int get_all(skate_session *s, const struct skate_id *ids, uint32_t count,
                   const struct span *t, uint8_t *ready, skate_value *ret) {
    uint8_t *taken = ready + count;
    uint32_t have = 0;

    for (;;) {
        int r = wait_ready(s, ids, count, count, t, CORE_FETCH | CORE_STOP_ON_ERROR, ready);
        uint32_t missing = count;

        if (r < 0) return r;
        for (uint32_t i = 0; i < count; i++) {
            if (ready[i] && !taken[i]) {
                r = read_one(s, &ids[i], &ret[i]);
                if (r < 0) return r;
                taken[i] = r > 0;
                have += taken[i];
            }
            if (!taken[i] && missing == count) missing = i;
        }
        if (missing == count) return 0;
        if (now_ns() >= t->deadline) return fail_timeout(s, &ids[missing], t, have, count);
    }
}

/* ids of refs, and bytes behind them: one malloc for many, the caller's room for few. */
static int ids_of(const skate_ref *refs, size_t count, size_t more, struct skate_id *few,
                  struct skate_id **ret) {
    struct skate_id *ids = few;

    if (count > UINT32_MAX / 64)
        return api_fail(-SKATE_ETOOBIG, "%zu refs are too many at once", count);
    if (count > FEW) ids = malloc(count * sizeof *ids + more);
    if (!ids) return api_fail(-SKATE_ENOMEM, "no memory for %zu refs", count);
    for (size_t i = 0; i < count; i++) {
        ids[i] = api_id(refs[i]);
        if (!id_is_nil(&ids[i])) continue;
        if (ids != few) free(ids);
        return api_fail(-SKATE_EINVAL, "ref %zu is empty (both its numbers are 0)", i);
    }
    *ret = ids;
    return 0;
}

int skate_get_many(skate_session *s, const skate_ref *refs, size_t count, int64_t timeout_ms,
                   skate_value *ret) {
    struct skate_id few[FEW + FEW / 8], *ids;
    struct span t = span_of(s, timeout_ms);
    uint8_t *ready;
    int r;

    if (count == 0) return 0;
    if (!refs || !ret) return api_fail(-SKATE_EINVAL, "refs or ret is NULL");
    r = ids_of(refs, count, 2 * count, few, &ids);
    if (r < 0) return r;
    ready = (uint8_t *)(ids + count);
    memset(ready, 0, 2 * count);
    memset(ret, 0, count * sizeof *ret);
    r = get_all(s, ids, (uint32_t)count, &t, ready, ret);
    for (size_t i = 0; r < 0 && i < count; i++) plain_release(s->c, &ret[i]);
    if (ids != few) free(ids);
    return r;
}

int skate_wait(skate_session *s, const skate_ref *refs, size_t count, size_t need,
               int64_t timeout_ms, uint8_t *ready) {
    struct skate_id few[FEW + FEW / 8], *ids;
    struct span t = span_of(s, need ? timeout_ms : 0);
    int r;

    if (need > count)
        return api_fail(-SKATE_EINVAL, "need is %zu, but there are %zu refs", need, count);
    if (count == 0) return 0;
    if (!refs || !ready) return api_fail(-SKATE_EINVAL, "refs or ready is NULL");
    r = ids_of(refs, count, 0, few, &ids);
    if (r < 0) return r;
    r = wait_ready(s, ids, (uint32_t)count, (uint32_t)(need ? need : count), &t,
                   CORE_FETCH, ready);
    if (ids != few) free(ids);
    return r;
}

/* ---- put, refs ---- */

int skate_put(skate_session *s, const skate_value *v, skate_ref *ret) {
    struct skate_error err;
    struct plain_out o;
    struct skate_id id;
    int r;

    err.text[0] = 0;
    if (!v || !ret) return api_fail(-SKATE_EINVAL, "v or ret is NULL");
    if (v->kind == SKATE_REF && v->as.ref.id[1] & 0xffff)
        return api_fail(-SKATE_ETYPE, "a ref cannot be put alone; put it in a list");
    plain_out_init(&o);
    r = plain_encode(&o, v, &err);
    if (r == 0) do {
            r = core_room_for(s->c, core_put(s->c, &o.v, &id, &err), &err);
        } while (r == -SKATE_EINTR);
    plain_out_release(&o, s->c);
    if (r < 0) return api_fail_in(s, r, &err);
    *ret = api_ref(id);
    return 0;
}

void skate_ref_copy(skate_session *s, skate_ref ref) {
    struct skate_id id = api_id(ref);

    if (!id_is_nil(&id)) core_ref_add(s->c, &id);
}

void skate_ref_drop(skate_session *s, skate_ref ref) {
    struct skate_id id = api_id(ref);

    if (!id_is_nil(&id)) core_ref_drop(s->c, &id);
}

void skate_release(skate_session *s, skate_value *v) {
    if (v->owned)
        plain_release(s->c, v);
    else
        memset(v, 0, sizeof *v);
}
