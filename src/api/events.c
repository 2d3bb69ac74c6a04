/* events.c - the session's news, and being told of refs without waiting. Tests: tests/c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/api_int.h"
#include "base/atomic.h"
#include "core/core_async.h"
#include "wire/wire_gen.h"

static int64_t now_ms(void) {
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int keep_text(skate_session *s, const char *text, size_t n) {
    char *copy = malloc(n + 1);

    if (!copy) return api_fail(-SKATE_ENOMEM, "no memory for an event");
    memcpy(copy, text, n);
    copy[n] = 0;
    free(s->event_text);
    s->event_text = copy;
    return 0;
}

/* The next line of the log frame that is held; 0: there is none. */
static int next_line(skate_session *s, struct skate_event *ret) {
    const struct wire_log *m = s->event;
    uint32_t len, n;
    const char *text, *line, *end, *ip;
    int r;

    if (!m) return 0;
    text = (const char *)wire_log_text(m, &len);
    line = text + s->event_at;
    len -= s->event_at;
    if (len == 0) {
        free(s->event);
        s->event = NULL;
        return 0;
    }
    end = memchr(line, '\n', len);
    n = end ? (uint32_t)(end - line) : len;
    r = keep_text(s, line, n);
    if (r < 0) return r;
    s->event_at += n + (end != NULL);
    *ret = (struct skate_event){.kind = m->is_err ? 2 : 1, .pid = m->pid, .text = s->event_text};
    ip = wire_log_node_ip(m, &n);
    (void)snprintf(ret->node, sizeof ret->node, "%.*s", (int)n, ip);
    return 1;
}

/* A frame that came; 1 when it is an event already, 0: look at its lines, or nothing of ours. */
static int take_frame(skate_session *s, void *frame, uint32_t len, struct skate_event *ret) {
    if (wire_check(frame, len) == 0 && wire_head(frame)->kind == WIRE_LOG) {
        free(s->event);
        s->event = frame;
        s->event_at = 0;
        return 0;
    }
    if (wire_check(frame, len) == 0 && wire_head(frame)->kind == WIRE_NOTICE) {
        uint32_t n;
        const char *text = wire_notice_text(frame, &n);
        int r = keep_text(s, text, n);

        free(frame);
        if (r < 0) return r;
        *ret = (struct skate_event){.kind = 3, .text = s->event_text};
        (void)snprintf(ret->node, sizeof ret->node, "%s", core_get_info(s->c)->node_ip);
        return 1;
    }
    free(frame);
    return 0;
}

int skate_next_event(skate_session *s, int64_t timeout_ms, struct skate_event *ret) {
    int64_t deadline = timeout_ms < 0 || timeout_ms > INT64_MAX / 2 ? INT64_MAX
                                                                    : now_ms() + timeout_ms;
    uint32_t interrupts = at_load_seq(&s->interrupts);

    if (!ret) return api_fail(-SKATE_EINVAL, "ret is NULL");
    for (;;) {
        int64_t left = deadline == INT64_MAX ? INT64_MAX : deadline - now_ms();
        void *frame;
        uint32_t len;
        int r = next_line(s, ret);

        if (r) return r < 0 ? r : 0;
        if (left < 0) left = 0;
        r = core_event(s->c, (left < 100 ? left : 100) * 1000000, &frame, &len);
        if (r == 0) {
            r = take_frame(s, frame, len, ret);
            if (r) return r < 0 ? r : 0;
        } else if (r != -SKATE_ETIMEOUT) {
            return api_fail_in(s, r, NULL);
        } else if (at_load_seq(&s->interrupts) != interrupts) {
            return api_fail(-SKATE_EINTR, "skate_interrupt() was called");
        } else if (left == 0) {
            return api_fail(r, "there is no event");
        }
    }
}

/* ---- watches ---- */

int skate_watch_open(skate_session *s, int fd, uint32_t *ret_set) {
    int r = core_watch_open(s->c, fd, ret_set);

    return r < 0 ? api_fail_in(s, r, NULL) : 0;
}

int skate_watch(skate_session *s, uint32_t set, skate_ref ref, uint64_t token) {
    struct skate_id id = api_id(ref);
    int r;

    if (id_is_nil(&id)) return api_fail(-SKATE_EINVAL, "the ref is empty (both numbers are 0)");
    r = core_watch(s->c, set, &id, token);
    return r < 0 ? api_fail_in(s, r, NULL) : r;
}

int skate_watched(skate_session *s, uint32_t set, uint64_t *tokens, uint32_t max) {
    if (s->forked) return api_fail_in(s, -SKATE_EFORKED, NULL);
    return (int)core_watch_take(s->c, set, tokens, max);
}

void skate_watch_close(skate_session *s, uint32_t set) { core_watch_close(s->c, set); }
