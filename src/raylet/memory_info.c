/* memory_info.c - see memory_info.h. Called by memory_monitor.c. */
#include "raylet/memory_info.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 768, TEXT_BYTES = 16384, LEVELS = 32 };
#define NO_LIMIT (UINT64_C(1) << 60) /* cgroup v1 says "none" by a number like that */

uint64_t memory_threshold(uint64_t limit, const struct memory_rules *rules) {
    double part = (double)limit * rules->fraction;
    uint64_t by_part = part >= (double)limit ? limit : part > 0 ? (uint64_t)part : 0;
    uint64_t by_free = 0;

    if (rules->min_free >= 0 && (uint64_t)rules->min_free < limit)
        by_free = limit - (uint64_t)rules->min_free;
    return by_part > by_free ? by_part : by_free;
}

int64_t memory_room(const struct memory_use *u) {
    return u->limit ? (int64_t)u->threshold - (int64_t)u->used : INT64_MAX;
}

/* ---- small files ---- */

/* The whole of it as text, cut at `cap`; false: it cannot be read. */
static bool slurp(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t used = 0;
    ssize_t n = 1;

    if (fd < 0) return false;
    while (used < cap - 1) {
        n = read(fd, out + used, cap - 1 - used);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        used += (size_t)n;
    }
    (void)close(fd);
    out[used] = 0;
    return n >= 0;
}

/* A number at the start of a text; bounded, so that sums of some do not overflow. */
static bool number(const char *text, uint64_t *ret) {
    uint64_t n = 0;

    while (*text == ' ' || *text == '\t') text++;
    if (*text < '0' || *text > '9') return false;
    for (; *text >= '0' && *text <= '9'; text++)
        n = n < NO_LIMIT ? n * 10 + (uint64_t)(*text - '0') : NO_LIMIT;
    *ret = n < NO_LIMIT ? n : NO_LIMIT;
    return true;
}

/* The number behind `key` at the start of a line. */
static bool field(const char *text, const char *key, uint64_t *ret) {
    size_t n = strlen(key);

    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (!strncmp(line, key, n)) return number(line + n, ret);
    }
    return false;
}

static bool file_number(const char *folder, const char *name, uint64_t *ret) {
    char path[PATH_BYTES + 64], text[64];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return slurp(path, text, sizeof text) && number(text, ret);
}

/* ---- the machine and its cgroups ---- */

static void keep_worse(struct memory_use *worst, const char *what, uint64_t used, uint64_t limit,
                       const struct memory_rules *rules) {
    struct memory_use u = {.used = used, .limit = limit,
                           .threshold = memory_threshold(limit, rules)};

    if (limit == 0 || limit >= NO_LIMIT) return;
    (void)snprintf(u.what, sizeof u.what, "%s", what);
    if (memory_room(&u) < memory_room(worst)) *worst = u;
}

static void read_machine(const char *root, const struct memory_rules *rules,
                         struct memory_use *worst) {
    char path[PATH_BYTES], text[TEXT_BYTES];
    uint64_t total, free;

    (void)snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (!slurp(path, text, sizeof text) || !field(text, "MemTotal:", &total) ||
        !field(text, "MemAvailable:", &free))
        return;
    if (free > total) free = total;
    keep_worse(worst, "node", (total - free) << 10, total << 10, rules);
}

/* What the kernel would drop: page cache, and caches of its own (v1 does not tell those). v1 says
 * it for the whole tree by "total_". */
static uint64_t reclaimable(const char *folder, bool v1) {
    char path[PATH_BYTES + 64], text[TEXT_BYTES];
    uint64_t a = 0, b = 0, slab = 0;

    (void)snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (!slurp(path, text, sizeof text)) return 0;
    if (!field(text, v1 ? "total_inactive_file " : "inactive_file ", &a)) a = 0;
    if (!field(text, v1 ? "total_active_file " : "active_file ", &b)) b = 0;
    if (v1 || !field(text, "slab_reclaimable ", &slab)) slab = 0;
    return a + b + slab;
}

static void read_group(const char *folder, bool v1, const struct memory_rules *rules,
                       struct memory_use *worst) {
    const char *max = v1 ? "memory.limit_in_bytes" : "memory.max";
    const char *current = v1 ? "memory.usage_in_bytes" : "memory.current";
    uint64_t limit, used, cache;

    if (!file_number(folder, max, &limit) || limit >= NO_LIMIT) return; /* "max": no number */
    if (!file_number(folder, current, &used)) return;
    cache = reclaimable(folder, v1);
    keep_worse(worst, "cgroup", used > cache ? used - cache : 0, limit, rules);
}

/* From our own group up to the one that is mounted. In a container the path may be one that only
 * the host knows: then the mount itself is ours. */
static void read_groups(const char *mount, char *path, bool v1, const struct memory_rules *rules,
                        struct memory_use *worst) {
    char folder[PATH_BYTES];

    if (strstr(path, "/..")) path[0] = 0;
    for (int i = 0; i < LEVELS; i++) {
        char *slash = strrchr(path, '/');

        if ((size_t)snprintf(folder, sizeof folder, "%s%s", mount, path) < sizeof folder)
            read_group(folder, v1, rules, worst);
        if (!slash) return;
        *slash = 0;
    }
}

/* Does the list of controllers name the one of memory? */
static bool names_memory(const char *list, size_t len) {
    static const char name[] = "memory";

    for (size_t i = 0; i + sizeof name - 1 <= len; i++)
        if (!strncmp(list + i, name, sizeof name - 1) && (i == 0 || list[i - 1] == ',') &&
            (i + sizeof name - 1 == len || list[i + sizeof name - 1] == ','))
            return true;
    return false;
}

/* A line of /proc/self/cgroup: number ':' controllers ':' path. */
static void read_line(const char *root, char *line, const struct memory_rules *rules,
                      struct memory_use *worst) {
    static const char *const v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
    char mount[PATH_BYTES], copy[PATH_BYTES];

    if (!path || path[1] != '/' || strlen(path + 1) >= sizeof copy) return;
    if (path == list + 1) {
        for (int i = 0; i < 2; i++) {
            (void)snprintf(mount, sizeof mount, "%s%s", root, v2[i]);
            (void)snprintf(copy, sizeof copy, "%s", path + 1);
            read_groups(mount, copy, false, rules, worst);
        }
    } else if (names_memory(list + 1, (size_t)(path - list - 1))) {
        (void)snprintf(mount, sizeof mount, "%s/sys/fs/cgroup/memory", root);
        (void)snprintf(copy, sizeof copy, "%s", path + 1);
        read_groups(mount, copy, true, rules, worst);
    }
}

struct memory_use memory_read(const char *root, const struct memory_rules *rules) {
    struct memory_use worst = {0};
    char path[PATH_BYTES], text[TEXT_BYTES], *save = NULL;

    read_machine(root, rules, &worst);
    (void)snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (slurp(path, text, sizeof text))
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
            read_line(root, line, rules, &worst);
    return worst;
}

/* ---- processes ---- */

uint64_t memory_of_pid(const char *root, uint32_t pid) {
    char path[PATH_BYTES], text[128];
    uint64_t resident, shared;
    const char *at;

    (void)snprintf(path, sizeof path, "%s/proc/%u/statm", root, pid);
    if (!slurp(path, text, sizeof text)) return 0;
    at = strchr(text, ' ');
    if (!at || !number(at + 1, &resident)) return 0;
    at = strchr(at + 1, ' ');
    if (!at || !number(at + 1, &shared) || shared > resident) return 0;
    return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t memory_exact(const char *root, uint32_t pid) {
    static const char *const keys[] = {"Private_Clean:", "Private_Dirty:", "Private_Hugetlb:",
                                       "Swap:"};
    char path[PATH_BYTES], text[4096];
    uint64_t sum = 0, n;

    (void)snprintf(path, sizeof path, "%s/proc/%u/smaps_rollup", root, pid);
    if (!slurp(path, text, sizeof text)) return 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (field(text, keys[i], &n)) sum += n;
    return sum << 10;
}

/* pid (name) state parent group: the name may hold anything, blanks and parentheses too. */
static bool read_stat(const char *root, uint32_t pid, struct memory_proc *ret) {
    char path[PATH_BYTES], text[512], *open, *close;
    uint64_t parent, group;
    const char *at;

    (void)snprintf(path, sizeof path, "%s/proc/%u/stat", root, pid);
    if (!slurp(path, text, sizeof text)) return false;
    open = strchr(text, '(');
    close = strrchr(text, ')');
    if (!open || !close || close < open || close[1] != ' ' || !close[2] || close[3] != ' ')
        return false;
    if (!number(close + 4, &parent)) return false;
    at = strchr(close + 4, ' ');
    if (!at || !number(at + 1, &group) || group > UINT32_MAX) return false;
    *close = 0;
    *ret = (struct memory_proc){.pid = pid, .group = (uint32_t)group};
    for (size_t i = 0; i < sizeof ret->name - 1 && open[1 + i]; i++)
        ret->name[i] = open[1 + i] < ' ' ? '?' : open[1 + i];
    return true;
}

uint32_t memory_scan(const char *root, struct memory_proc *out, uint32_t max) {
    char path[PATH_BYTES];
    struct dirent *d;
    uint32_t n = 0;
    DIR *dir;

    (void)snprintf(path, sizeof path, "%s/proc", root);
    dir = opendir(path);
    if (!dir) return 0;
    while (n < max && (d = readdir(dir))) {
        uint64_t pid;

        if (!number(d->d_name, &pid) || pid == 0 || pid > INT32_MAX) continue;
        if (!read_stat(root, (uint32_t)pid, &out[n])) continue;
        out[n].bytes = memory_of_pid(root, (uint32_t)pid);
        n++;
    }
    (void)closedir(dir);
    return n;
}
