/* death_record.c - see death_record.h. Called by deaths.c and worker_logs.c. Tests:
 * tests/unit/raylet_death_record_test.c, tests/compat/test_compat_deaths.py. */
#include "raylet/death_record.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "raylet/text.h"

enum { LINE_MOST = 160 };

void death_notes_output(struct death_notes *n, const char *text, uint32_t len) {
    uint32_t keep;

    if (len == 0) return;
    if (!n->tail) n->tail = malloc(DEATH_TAIL);
    if (!n->tail) return;
    if (len > DEATH_TAIL) {
        text += len - DEATH_TAIL;
        len = DEATH_TAIL;
    }
    keep = n->tail_len + len > DEATH_TAIL ? DEATH_TAIL - len : n->tail_len;
    memmove(n->tail, n->tail + n->tail_len - keep, keep);
    memcpy(n->tail + keep, text, len);
    n->tail_len = keep + len;
}

void death_notes_release(struct death_notes *n) {
    free(n->tail);
    free(n->verdict);
    n->tail = n->verdict = NULL;
    n->tail_len = 0;
}

/* One line of its output: no colours, no control characters, not too long. */
static void say_line(struct text *t, const char *line, uint32_t len) {
    char out[LINE_MOST + 1];
    uint32_t n = 0;

    for (uint32_t i = 0; i < len && n < LINE_MOST; i++) {
        unsigned char c = (unsigned char)line[i];

        if (c == 27 && i + 1 < len && line[i + 1] == '[') { /* up to the letter that ends it */
            for (i += 2; i < len && (line[i] < '@' || line[i] > '~'); i++) {}
            continue;
        }
        if (c != 13) out[n++] = c < 32 && c != '\t' ? '?' : (char)c;
    }
    out[n] = 0;
    say(t, "\n    | %s%s", out, n == LINE_MOST ? "..." : "");
}

/* A line of a dumped stack that belongs to the runtime itself: nobody wants to read it. */
static bool own_line(const char *line, uint32_t len) {
    static const char file[] = "  File \"", own[] = "/skate/_", boot[] = "<string>\"";
    size_t n = sizeof file - 1;

    if (len < n || memcmp(line, file, n)) return false;
    return memmem(line, len, own, sizeof own - 1) ||
           (len > n + sizeof boot && !memcmp(line + n, boot, sizeof boot - 1));
}

static void say_output(struct text *t, const struct death_notes *n) {
    uint32_t end = n->tail_len, start, lines = 0;

    while (end > 0 && n->tail[end - 1] == '\n') end--;
    /* Back to the first of the last lines that fit; a line cut at its front is left out. */
    for (start = end; start > 0; start--) {
        if (n->tail[start - 1] != '\n') continue;
        if (++lines == DEATH_LINES || end - start > DEATH_TEXT - t->used - 300) break;
    }
    if (start == 0 && n->tail_len == DEATH_TAIL)
        while (start < end && n->tail[start++] != '\n') {}
    if (start >= end) return;
    say(t, "\n    its last lines:");
    for (uint32_t at = start; at < end;) {
        const char *newline = memchr(n->tail + at, '\n', end - at);
        uint32_t len = newline ? (uint32_t)(newline - (n->tail + at)) : end - at;

        if (len && !own_line(n->tail + at, len)) say_line(t, n->tail + at, len);
        at += len + 1;
    }
}

void death_record(const struct death_facts *f, char out[DEATH_TEXT]) {
    const char *what = f->driver ? "driver" : f->member ? "member" : "worker", *why = f->reason;
    const char *colon = why[0] ? ": " : "";
    struct text t = {out, 0, DEATH_TEXT};

    if (f->notes->verdict && !f->intended) {
        say(&t, "%s", f->notes->verdict);
        if (f->notes->tail_len) say_output(&t, f->notes);
        return;
    }
    if (f->intended && why[0])
        say(&t, "%s process %u ended: %s", what, f->pid, why);
    else if (f->signal > 0)
        say(&t, "%s process %u was killed by signal %d (SIG%s)%s%s", what, f->pid, f->signal,
            sigabbrev_np(f->signal) ? sigabbrev_np(f->signal) : "?", colon, why);
    else if (f->code >= 0)
        say(&t, "%s process %u exited with code %d%s%s", what, f->pid, f->code, colon, why);
    else
        say(&t, "%s process %u ended%s%s", what, f->pid, colon, why);
    if (f->driver || f->member || f->intended) return;
    say(&t, "\n    on node %u (%s)", f->node, f->node_ip);
    if (f->notes->peak_bytes)
        say(&t, "; at most %.0f MB of memory", (double)f->notes->peak_bytes / 1e6);
    if (f->signal == SIGKILL && f->oom)
        say(&t, "\n    the kernel's OOM killer has just ended a process here, most likely this "
                "one: the memory was used up");
    else if (f->signal == SIGKILL && !why[0])
        say(&t, "\n    killed from outside: not by this session");
    if (f->notes->tail_len) say_output(&t, f->notes);
}

/* ---- the kernel's OOM killer ---- */

uint64_t death_counter(const char *text, const char *key) {
    size_t n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (!strncmp(line, key, n) && line[n] == ' ') return strtoull(line + n, NULL, 10);
    }
    return 0;
}

static bool read_file(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t n = 1;

    if (fd < 0) return false;
    while (used < cap - 1 && (n = read(fd, out + used, cap - 1 - used)) > 0) used += (size_t)n;
    out[used] = 0;
    (void)close(fd);
    return n >= 0;
}

uint64_t death_oom_kills(void) {
    static char text[32768];
    char own[512], path[640], *end;

    if (read_file("/proc/self/cgroup", own, sizeof own) && !strncmp(own, "0::", 3)) {
        end = strchr(own, '\n');
        if (end) *end = 0;
        (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.events", own + 3);
        if (read_file(path, text, sizeof text)) return death_counter(text, "oom_kill");
    }
    return read_file("/proc/vmstat", text, sizeof text) ? death_counter(text, "oom_kill") : 0;
}
