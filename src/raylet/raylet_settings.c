/* raylet_settings.c - see raylet_settings.h. */
#include "raylet/raylet_settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 256 * 1024 };

static int parse_u64(const char *text, uint64_t max, uint64_t *ret) {
    char *end;
    unsigned long long n;

    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || n > max) return -SKATE_EINVAL;
    *ret = n;
    return 0;
}

static int copy_text(char *out, size_t cap, const char *text) {
    size_t n = strlen(text);

    if (n >= cap) return -SKATE_EINVAL;
    memcpy(out, text, n + 1);
    return 0;
}

/* "CPU:2,gpu:0.5" */
static int parse_resources(char *text, struct resources *ret) {
    char *save = NULL;

    for (char *p = strtok_r(text, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
        char *colon = strrchr(p, ':'), *end;
        double amount;

        if (!colon || colon == p) return -SKATE_EINVAL;
        *colon = 0;
        amount = strtod(colon + 1, &end);
        if (end == colon + 1 || *end || !(amount >= 0) || amount > 1e14) return -SKATE_EINVAL;
        if (resources_set(ret, p, (int64_t)(amount * RESOURCE_UNIT + 0.5)) < 0)
            return -SKATE_EINVAL;
    }
    return 0;
}

static int parse_gcs(struct raylet_settings *s, const char *value) {
    return net_parse_address(value, s->gcs_ip, &s->gcs_port);
}

/* A heap copy in *at, instead of what is there; NULL for nothing. */
static int keep_text(char **at, const char *text) {
    char *copy = *text ? strdup(text) : NULL;

    if (*text && !copy) return -SKATE_ENOMEM;
    if (*at) net_wipe(*at, strlen(*at));
    free(*at);
    *at = copy;
    return 0;
}

static int parse_real(const char *text, double max, double *ret) {
    char *end;
    double x = strtod(text, &end);

    if (end == text || *end || !(x >= 0) || x > max) return -SKATE_EINVAL;
    *ret = x;
    return 0;
}

/* How the store spills and waits; 1: none of these keys. */
static int set_store(struct raylet_settings *s, const char *key, const char *value) {
    const uint64_t most = UINT64_MAX / 2;

    if (!strcmp(key, "spill")) return keep_text(&s->spill, value);
    if (!strcmp(key, "spill_options")) return keep_text(&s->spill_options, value);
    if (!strcmp(key, "no_near")) return s->no_near = !strcmp(value, "1"), 0;
    if (!strcmp(key, "spill_remote")) return s->spill_remote = !strcmp(value, "1"), 0;
    if (!strcmp(key, "spill_threshold")) return parse_real(value, 1.0, &s->spill_threshold);
    if (!strcmp(key, "spill_min_bytes")) return parse_u64(value, most, &s->spill_min_bytes);
    if (!strcmp(key, "spill_file_bytes")) return parse_u64(value, most, &s->spill_file_bytes);
    if (!strcmp(key, "store_wait_s")) return parse_real(value, 1e9, &s->store_wait_s);
    if (!strcmp(key, "span")) return parse_u64(value, most, &s->span);
    return 1;
}

/* Memory protection; 1: none of these keys. */
static int set_memory(struct memory_settings *m, const char *key, const char *value) {
    const uint64_t most = INT64_MAX;
    uint64_t n = 0;
    int e = 1;

    if (!strcmp(key, "memory_usage_threshold")) return parse_real(value, 1.0, &m->threshold);
    if (!strcmp(key, "memory_monitor_refresh_ms")) return parse_u64(value, 3600000, &m->refresh_ms);
    if (!strcmp(key, "memory_limit_bytes")) return parse_u64(value, most, &m->limit);
    if (!strcmp(key, "idle_worker_killing_memory_threshold_bytes"))
        return parse_u64(value, most, &m->idle_bytes);
    if (!strcmp(key, "min_memory_free_bytes")) {
        e = parse_u64(value, most, &n);
        if (e == 0) m->min_free = (int64_t)n;
    }
    if (!strcmp(key, "enforce_task_memory")) {
        e = parse_u64(value, 1, &n);
        if (e == 0) m->enforce = n != 0;
    }
    return e;
}

static int parse_number(struct raylet_settings *s, const char *key, const char *value) {
    static const char *const known[] = {"listen_port", "arena_bytes", "is_head", "local_session",
                                        "lifeline_pid", "outpost", "shared_cpus",
                                        "lend_cpus", "report_log", "gcs_wait_s"};
    bool mine = false;
    uint64_t n;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        mine = mine || !strcmp(key, known[i]);
    if (!mine || !*value) return 0;
    if (parse_u64(value, UINT64_MAX / 2, &n) < 0) return -SKATE_EINVAL;
    if (!strcmp(key, "listen_port")) {
        if (n > 65535) return -SKATE_EINVAL;
        s->listen_port = (uint16_t)n;
    } else if (!strcmp(key, "arena_bytes")) {
        s->arena_bytes = n;
    } else if (!strcmp(key, "is_head")) {
        s->is_head = n != 0;
    } else if (!strcmp(key, "local_session")) {
        s->local_session = n != 0;
    } else if (!strcmp(key, "report_log")) {
        s->report_log = n != 0;
    } else if (!strcmp(key, "outpost")) {
        s->outpost = n != 0;
    } else if (!strcmp(key, "lifeline_pid")) {
        if (n > INT32_MAX) return -SKATE_EINVAL;
        s->lifeline_pid = (uint32_t)n;
    } else if (!strcmp(key, "gcs_wait_s")) {
        if (n > 1 << 20) return -SKATE_EINVAL;
        s->gcs_wait_s = (uint32_t)n;
    } else {
        if (n > 1 << 20) return -SKATE_EINVAL;
        *(!strcmp(key, "shared_cpus") ? &s->shared_cpus : &s->lend_cpus) = (uint32_t)n;
    }
    return 0;
}

/* Unknown keys are skipped: a newer starter may say more. */
static int set_one(struct raylet_settings *s, const char *key, char *value) {
    int e = set_store(s, key, value);

    if (e > 0) e = set_memory(&s->memory, key, value);
    if (e > 0) e = tls_settings_set(&s->tls, key, value);
    if (e <= 0) return e;
    if (!strcmp(key, "cluster_key")) return net_key_from_hex(value, strlen(value), s->key);
    if (!strcmp(key, "gcs")) return parse_gcs(s, value);
    if (!strcmp(key, "node_ip")) return copy_text(s->node_ip, sizeof s->node_ip, value);
    if (!strcmp(key, "session_dir")) return copy_text(s->session_dir, sizeof s->session_dir, value);
    if (!strcmp(key, "run_dir")) return copy_text(s->run_dir, sizeof s->run_dir, value);
    if (!strcmp(key, "python")) return copy_text(s->python, sizeof s->python, value);
    if (!strcmp(key, "worker")) return copy_text(s->worker, sizeof s->worker, value);
    if (!strcmp(key, "labels")) return copy_text(s->labels, sizeof s->labels, value);
    if (!strcmp(key, "gpu_names")) return copy_text(s->gpu_names, sizeof s->gpu_names, value);
    if (!strcmp(key, "node_name")) return copy_text(s->node_name, sizeof s->node_name, value);
    if (!strcmp(key, "slot")) return copy_text(s->slot, sizeof s->slot, value);
    if (!strcmp(key, "resources")) return parse_resources(value, &s->resources);
    if (!strcmp(key, "lifeline")) return s->no_lifeline = !strcmp(value, "none"), 0;
    if (!strcmp(key, "python_path")) {
        free(s->python_path);
        s->python_path = strdup(value);
        return s->python_path ? 0 : -SKATE_ENOMEM;
    }
    return parse_number(s, key, value);
}

/* Where objects go when nobody has said it. */
static int default_spill(struct raylet_settings *s) {
    char path[sizeof s->run_dir + 8];

    snprintf(path, sizeof path, "%s/spill", s->run_dir);
    return keep_text(&s->spill, path);
}

int raylet_settings_parse(char *line, struct raylet_settings *ret, struct skate_error *err) {
    struct raylet_settings s = {.line_fd = -1, .arena_bytes = 256 << 20, .spill_threshold = 0.8,
                                .store_wait_s = 30, .gcs_wait_s = 1800,
                                .memory = {.refresh_ms = 250, .threshold = 0.95, .min_free = -1,
                                           .idle_bytes = 128 << 20}};
    char *save = NULL;
    bool has_key = false, has_spill = false;

    for (char *p = strtok_r(line, "\t\n", &save); p; p = strtok_r(NULL, "\t\n", &save)) {
        char *equals = strchr(p, '=');

        if (!equals) {
            raylet_settings_release(&s);
            return err_fail(err, -SKATE_EINVAL, "a setting without '='");
        }
        *equals = 0;
        if (set_one(&s, p, equals + 1) < 0) {
            raylet_settings_release(&s);
            return err_fail(err, -SKATE_EINVAL, "the setting %s cannot be read", p);
        }
        has_key = has_key || !strcmp(p, "cluster_key");
        has_spill = has_spill || !strcmp(p, "spill");
    }
    if (!has_key || !s.gcs_port || !s.node_ip[0] || !s.run_dir[0] || !s.python[0] ||
        s.arena_bytes < 65536) {
        raylet_settings_release(&s);
        return err_fail(err, -SKATE_EINVAL, "one of the settings cluster_key, gcs, node_ip, "
                          "run_dir, python, arena_bytes is missing");
    }
    if (!has_spill && default_spill(&s) < 0) {
        raylet_settings_release(&s);
        return err_fail(err, -SKATE_ENOMEM, "out of memory");
    }
    *ret = s;
    net_wipe(s.key, sizeof s.key);
    return 0;
}

/* A node of a cluster may have to start anew; a private session never does. */
static int parse_and_keep(char *line, size_t len, struct raylet_settings *ret,
                          struct skate_error *err) {
    int fd = rejoin_keep(line, len);
    int e = raylet_settings_parse(line, ret, err);

    if (e == 0 && !ret->local_session)
        ret->line_fd = fd;
    else if (fd >= 0)
        close(fd);
    return e;
}

int raylet_settings_read(int fd, struct raylet_settings *ret, struct skate_error *err) {
    char *line = calloc(1, LINE_MAX_BYTES);
    size_t used = 0;
    int e = -SKATE_EDEAD;

    if (!line) return -SKATE_ENOMEM;
    /* A byte at a time would be slow, and reading past the newline harmless: nothing follows. */
    while (used < LINE_MAX_BYTES - 1) {
        ssize_t n = read(fd, line + used, LINE_MAX_BYTES - 1 - used);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
        if (memchr(line + used - (size_t)n, '\n', (size_t)n)) {
            e = parse_and_keep(line, used, ret, err);
            break;
        }
    }
    if (e == -SKATE_EDEAD) err_fail(err, e, "no line of settings came on stdin");
    net_wipe(line, LINE_MAX_BYTES);
    free(line);
    return e;
}

void raylet_settings_release(struct raylet_settings *s) {
    free(s->python_path);
    s->python_path = NULL;
    (void)keep_text(&s->spill, "");
    (void)keep_text(&s->spill_options, "");
    net_wipe(s->key, sizeof s->key);
    if (s->line_fd > 0) close(s->line_fd);
    s->line_fd = -1;
}
