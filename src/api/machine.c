/* machine.c - see machine.h. */
#include "api/machine.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int machine_read(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), n = 0;
    ssize_t got;

    if (fd < 0) return -1;
    while ((size_t)n + 1 < cap && (got = read(fd, out + n, cap - 1 - (size_t)n)) > 0) n += (int)got;
    (void)close(fd);
    while (n > 0 && isspace((unsigned char)out[n - 1])) n--;
    out[n] = 0;
    return n;
}

/* ---- control groups ---- */

/* What a control group says of CPUs and memory: each only ever lowered. */
struct limits {
    double cpus;
    uint64_t memory;
};

static void look_into(const char *folder, struct limits *l) {
    char path[600], text[128];
    const char *const memory[] = {"memory.max", "memory.limit_in_bytes"};
    double quota, period;
    int n;

    (void)snprintf(path, sizeof path, "%s/cpu.max", folder);
    n = machine_read(path, text, sizeof text);
    if (n > 0 && sscanf(text, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0 &&
        quota / period < l->cpus)
        l->cpus = quota / period;
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (machine_read(path, text, sizeof text) > 0 && (quota = strtod(text, NULL)) > 0) {
        (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (machine_read(path, text, sizeof text) > 0 && (period = strtod(text, NULL)) > 0 &&
            quota / period < l->cpus)
            l->cpus = quota / period;
    }
    for (int i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", folder, memory[i]);
        if (machine_read(path, text, sizeof text) > 0 && isdigit((unsigned char)text[0])) {
            uint64_t bytes = strtoull(text, NULL, 10);

            if (bytes && bytes < l->memory) l->memory = bytes;
        }
    }
}

/* One line of /proc/self/cgroup: each folder from the innermost to the top. */
static void look_up(char *line, struct limits *l) {
    char *kinds = strchr(line, ':'), *path = kinds ? strchr(kinds + 1, ':') : NULL, folder[512];
    const char *kind = "";

    if (!path) return;
    *path++ = 0;
    kinds++;
    if (*kinds) {
        if (strstr(kinds, "memory"))
            kind = "/memory";
        else if (!strncmp(kinds, "cpu", 3))
            kind = "/cpu";
        else
            return;
    }
    for (;;) {
        size_t len = strlen(path);

        while (len && path[len - 1] == '/') path[--len] = 0;
        (void)snprintf(folder, sizeof folder, "/sys/fs/cgroup%s%s", kind, path);
        look_into(folder, l);
        if (len == 0) return;
        while (len && path[len - 1] != '/') path[--len] = 0;
    }
}

static struct limits group_limits(void) {
    struct limits l = {1e9, UINT64_MAX};
    char text[4096], *save = NULL;

    if (machine_read("/proc/self/cgroup", text, sizeof text) <= 0) return l;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        look_up(line, &l);
    return l;
}

unsigned machine_cpus(void) {
    double limit = group_limits().cpus;
    cpu_set_t set;
    int count = 1;

    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    if (limit < count) count = (int)limit;
    return count < 1 ? 1 : (unsigned)count;
}

uint64_t machine_memory(void) {
    uint64_t have = (uint64_t)sysconf(_SC_PAGESIZE) * (uint64_t)sysconf(_SC_PHYS_PAGES);
    uint64_t limit = group_limits().memory;

    return limit < have ? limit : have;
}

unsigned machine_gpus(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    unsigned n = 0;
    DIR *d;

    if (visible) {
        for (const char *p = visible; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] == ','))
            n += *p != ',' && strncmp(p, "-1", 2) != 0;
        return n;
    }
    d = opendir("/proc/driver/nvidia/gpus");
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) n += e->d_name[0] != '.';
    if (d) (void)closedir(d);
    return n;
}

/* ---- folders ---- */

int machine_base(char out[API_PATH], struct skate_error *err) {
    static const char *const names[] = {"SKATE_TMPDIR", "RAY_TMPDIR", "TMPDIR"};
    const char *root = NULL;
    struct stat st;

    for (int i = 0; i < 3 && !(root && *root); i++) root = getenv(names[i]);
    if (!root || !*root) root = "/tmp";
    if (snprintf(out, API_PATH, "%s/skate-%u", root, (unsigned)getuid()) >= API_PATH - 100)
        return err_fail(err, -SKATE_ETOOBIG, "the path %s is too long for a Unix socket in it: set "
                        "SKATE_TMPDIR to a shorter one", root);
    if ((mkdir(out, 0700) < 0 && errno != EEXIST) || stat(out, &st) < 0)
        return err_fail(err, -SKATE_EIO, "cannot make the folder of Skate's sessions %s: %s", out,
                        strerror(errno));
    if (st.st_uid != getuid() || (st.st_mode & 022))
        return err_fail(err, -SKATE_EAUTH, "%s belongs to somebody else or is writable by others",
                        out);
    return 0;
}

/* ---- clusters of `skate start` ---- */

/* When a process started; 0: it is gone. */
static uint64_t start_time(long pid) {
    char path[64], text[1024], *p;
    uint64_t time = 0;

    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (machine_read(path, text, sizeof text) <= 0 || !(p = strrchr(text, ')'))) return 0;
    if (p[1] != ' ' || p[2] == 'Z' || p[2] == 'X') return 0;
    p += 2;
    for (int i = 0; i < 19 && p; i++) p = strchr(p + 1, ' ');
    if (p) time = strtoull(p + 1, NULL, 10);
    return time;
}

/* The value behind "key": of flat JSON as Python writes it; NULL: none. */
static const char *json_value(const char *text, const char *key) {
    char quoted[64];
    const char *p;

    (void)snprintf(quoted, sizeof quoted, "\"%s\":", key);
    p = strstr(text, quoted);
    if (!p) return NULL;
    p += strlen(quoted);
    while (*p == ' ') p++;
    return p;
}

/* Escapes that a path may have: \" \\ \/ and \uXXXX up to 0x7ff. */
static bool json_string(const char *p, char *out, size_t cap) {
    size_t n = 0;

    if (!p || *p++ != '"') return false;
    while (*p && *p != '"') {
        unsigned c = (unsigned char)*p++;

        if (c == '\\') {
            c = (unsigned char)*p++;
            if (c == 'u') {
                char hex[5] = {0};

                memcpy(hex, p, strnlen(p, 4));
                if (strlen(hex) < 4) return false;
                c = (unsigned)strtoul(hex, NULL, 16);
                p += 4;
                if (c == 0 || c > 0x7ff) return false;
            } else if (c != '"' && c != '\\' && c != '/')
                return false;
        }
        if (n + 3 > cap) return false;
        if (c < 0x100 && (c < 0x80 || p[-1] != 'u'))
            out[n++] = (char)c;
        else {
            out[n++] = (char)(0xc0 | c >> 6);
            out[n++] = (char)(0x80 | (c & 0x3f));
        }
    }
    out[n] = 0;
    return *p == '"';
}

static bool record_lives(const char *text, uint64_t *ret_start) {
    const char *pid = json_value(text, "pid"), *start = json_value(text, "start_time");
    long number = pid ? strtol(pid, NULL, 10) : 0;

    if (number <= 0 || !start) return false;
    *ret_start = strtoull(start, NULL, 10);
    return *ret_start && *ret_start == start_time(number);
}

/* The socket of the oldest living raylet of a cluster on this machine. */
static bool cluster_socket(const char *base, const char *address, char out[API_PATH]) {
    char folder[API_PATH + API_ADDRESS + 16], path[1024], text[4096];
    uint64_t best = UINT64_MAX, start;
    DIR *d;

    (void)snprintf(folder, sizeof folder, "%s/cluster_%s", base, address);
    for (char *p = folder + strlen(base) + 1; *p; p++)
        if (*p == ':') *p = '_';
    d = opendir(folder);
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) {
        if (strncmp(e->d_name, "node_", 5) != 0 || !strstr(e->d_name, ".json")) continue;
        (void)snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (machine_read(path, text, sizeof text) <= 0 || !record_lives(text, &start)) continue;
        if (start < best && json_string(json_value(text, "socket"), out, API_PATH)) best = start;
    }
    if (d) (void)closedir(d);
    return best != UINT64_MAX;
}

bool machine_cluster(const char *base, char out[API_ADDRESS]) {
    char path[API_PATH + 32], socket_path[API_PATH];

    (void)snprintf(path, sizeof path, "%s/current_cluster", base);
    return machine_read(path, out, API_ADDRESS) > 0 && cluster_socket(base, out, socket_path);
}

/* The address with its host as a number. */
static int resolve(const char *address, char out[API_ADDRESS], struct skate_error *err) {
    struct addrinfo want = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    const char *colon = strrchr(address, ':');
    char host[API_ADDRESS], *end;
    long port = colon ? strtol(colon + 1, &end, 10) : 0;
    int e;

    if (!colon || colon == address || port <= 0 || port > 65535 || *end ||
        (size_t)(colon - address) >= sizeof host)
        return err_fail(err, -SKATE_EINVAL, "\"%s\" is not an address: \"host:port\" is one, or "
                        "\"local\", or NULL", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = 0;
    e = getaddrinfo(host, NULL, &want, &found);
    if (e || !found)
        return err_fail(err, -SKATE_ENOENT, "cannot find the host of %s: %s", address,
                        gai_strerror(e));
    e = getnameinfo(found->ai_addr, found->ai_addrlen, host, sizeof host, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    if (e || snprintf(out, API_ADDRESS, "%s:%ld", host, port) >= API_ADDRESS)
        return err_fail(err, -SKATE_EINVAL, "cannot read the address %s", address);
    return 0;
}

/* A session that another program began here: its folder has the address of its control store. */
static bool session_socket(const char *base, const char *address, char out[API_PATH]) {
    char path[1024], text[API_ADDRESS];
    bool found = false;
    DIR *d = opendir(base);

    for (struct dirent *e = d ? readdir(d) : NULL; e && !found; e = readdir(d)) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        int fd;

        if (strncmp(e->d_name, "session_", 8) != 0) continue;
        (void)snprintf(path, sizeof path, "%s/%s/address", base, e->d_name);
        if (machine_read(path, text, sizeof text) <= 0 || strcmp(text, address) != 0) continue;
        if (snprintf(path, sizeof path, "%s/%s/raylet.sock", base, e->d_name) >=
            (int)sizeof addr.sun_path)
            continue;
        memcpy(addr.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        found = fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0;
        if (fd >= 0) (void)close(fd);
        if (found) memcpy(out, path, strlen(path) + 1);
    }
    if (d) (void)closedir(d);
    return found;
}

int machine_raylet(const char *base, const char *address, char out[API_PATH],
                   struct skate_error *err) {
    char resolved[API_ADDRESS];
    int r = resolve(address, resolved, err);

    if (r < 0) return r;
    if (cluster_socket(base, resolved, out) || session_socket(base, resolved, out)) return 0;
    return err_fail(err, -SKATE_ENOENT, "no node of the cluster %s runs on this machine for this "
                    "user: run `skate start --address=%s` here first", address, address);
}
