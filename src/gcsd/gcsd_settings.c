/* gcsd_settings.c - see gcsd_settings.h. */
#include "gcsd/gcsd_settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int parse_number(const char *text, uint32_t max, uint32_t *ret) {
    unsigned long n;
    char *end;

    if (*text < '0' || *text > '9') return -SKATE_EINVAL;
    errno = 0;
    n = strtoul(text, &end, 10);
    if (errno || *end || n > max) return -SKATE_EINVAL;
    *ret = (uint32_t)n;
    return 0;
}

static int copy_text(char *to, size_t cap, const char *text) {
    int n = snprintf(to, cap, "%s", text);

    return n >= 0 && (size_t)n < cap ? 0 : -SKATE_EINVAL;
}

/* Unknown keys are skipped: a newer starter may say more. */
static int set_one(struct gcsd_settings *s, const char *key, const char *value) {
    uint32_t n = 0;
    int e = tls_settings_set(&s->tls, key, value);

    if (e <= 0) return e;
    e = 0;

    if (!strcmp(key, "cluster_key")) return net_key_from_hex(value, strlen(value), s->key);
    if (!strcmp(key, "listen_ip")) return copy_text(s->listen_ip, sizeof s->listen_ip, value);
    if (!strcmp(key, "session_dir")) return copy_text(s->session_dir, sizeof s->session_dir, value);
    if (!strcmp(key, "redis")) return copy_text(s->redis, sizeof s->redis, value);
    if (!strcmp(key, "redis_user")) return copy_text(s->redis_user, sizeof s->redis_user, value);
    if (!strcmp(key, "redis_name")) return copy_text(s->redis_name, sizeof s->redis_name, value);
    if (!strcmp(key, "redis_password"))
        return copy_text(s->redis_password, sizeof s->redis_password, value);
    if (!strcmp(key, "log")) return copy_text(s->log, sizeof s->log, value);
    if (!strcmp(key, "keep")) return s->keep = !strcmp(value, "1"), 0;
    if (!strcmp(key, "log_recover")) return s->recover = !strcmp(value, "1"), 0;
    if (!strcmp(key, "lifeline")) return s->lasting = !strcmp(value, "none"), 0;
    if (!strcmp(key, "local_session")) return s->local_session = !strcmp(value, "1"), 0;
    if (!strcmp(key, "listen_port")) {
        e = parse_number(value, 65535, &n);
        s->listen_port = (uint16_t)n;
    } else if (!strcmp(key, "heartbeat_ms"))
        e = parse_number(value, 86400000, &s->heartbeat_ms);
    else if (!strcmp(key, "keeper_pid"))
        e = parse_number(value, INT32_MAX, &s->keeper_pid);
    else if (!strcmp(key, "adopt_pid"))
        e = parse_number(value, INT32_MAX, &s->adopt_pid);
    else if (!strcmp(key, "lifeline_pid") && *value)
        e = parse_number(value, INT32_MAX, &s->lifeline_pid);
    return e;
}

int gcsd_settings_parse(char *line, struct gcsd_settings *ret, struct skate_error *err) {
    struct gcsd_settings s = {.listen_ip = "127.0.0.1"};
    bool has_key = false;
    char *save = NULL;
    int r = 0;

    for (char *p = strtok_r(line, "\t\n", &save); p && r == 0; p = strtok_r(NULL, "\t\n", &save)) {
        char *equals = strchr(p, '=');

        if (!equals) {
            r = err_fail(err, -SKATE_EINVAL, "a setting without '='");
            break;
        }
        *equals = 0;
        if (set_one(&s, p, equals + 1) < 0)
            r = err_fail(err, -SKATE_EINVAL, "the setting %s cannot be read", p);
        has_key = has_key || !strcmp(p, "cluster_key");
    }
    if (r == 0 && !has_key)
        r = err_fail(err, -SKATE_EINVAL, "the setting cluster_key is missing");
    if (r == 0) *ret = s;
    net_wipe(&s, sizeof s);
    return r;
}

struct gcsd_settings *gcsd_settings_memory(void) {
    struct gcsd_settings *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE,
                                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (s == MAP_FAILED) return NULL;
    (void)madvise(s, sizeof *s, MADV_DONTDUMP);
    return s;
}

/* Parse, and keep the line for the next start if there may be one, up to what is of one start. */
static int parse_and_keep(char *line, struct gcsd_settings *ret, struct skate_error *err) {
    char copy[LINE_BYTES], *cut;
    int r;

    memcpy(copy, line, strlen(line) + 1);
    r = gcsd_settings_parse(line, ret, err);
    if (r == 0 && (ret->keep || ret->keeper_pid)) {
        cut = strstr(copy, "\tkeep=");
        if (cut) *cut = 0;
        memcpy(ret->line, copy, strlen(copy) + 1);
    }
    net_wipe(copy, sizeof copy);
    return r;
}

int gcsd_settings_read(int fd, struct gcsd_settings *ret, struct skate_error *err) {
    char line[LINE_BYTES];
    size_t used = 0;
    int r = -SKATE_EDEAD;

    while (used < sizeof line - 1) {
        ssize_t n = read(fd, line + used, sizeof line - 1 - used);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
        line[used] = 0;
        if (line[used - 1] == '\n') {
            r = parse_and_keep(line, ret, err);
            break;
        }
    }
    if (r == -SKATE_EDEAD) (void)err_fail(err, r, "no line of settings came on stdin");
    net_wipe(line, sizeof line);
    return r;
}
