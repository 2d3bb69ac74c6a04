/* session.c - the beginning and the end of a session; forks; interrupts; calls to daemons.
 *
 * As init() and shutdown() of python/skate/_api.py. Tests: tests/c. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "api/api_int.h"
#include "api/machine.h"
#include "api/node_own.h"
#include "base/atomic.h"
#include "wire/wire_gen.h"

enum { CONNECT_MS = 20000, BYE_MS = 5000, ASK_MS = 20000 };

/* ---- forks ---- */

static struct {
    pthread_mutex_t lock;
    pthread_once_t once;
    skate_session *sessions;
} all = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_ONCE_INIT, NULL};

static void before_fork(void) { (void)pthread_mutex_lock(&all.lock); }
static void in_parent(void) { (void)pthread_mutex_unlock(&all.lock); }
static void in_child(void) {
    for (skate_session *s = all.sessions; s; s = s->next) {
        core_forked(s->c);
        s->forked = true;
        (void)pthread_mutex_init(&s->lock, NULL); /* a thread that is not here may have held it */
        if (s->node) api_node_forked(s->node);
    }
    (void)pthread_mutex_unlock(&all.lock);
}
static void watch_forks(void) { (void)pthread_atfork(before_fork, in_parent, in_child); }

static void list_add(skate_session *s) {
    (void)pthread_once(&all.once, watch_forks);
    (void)pthread_mutex_lock(&all.lock);
    s->next = all.sessions;
    all.sessions = s;
    (void)pthread_mutex_unlock(&all.lock);
}

static void list_remove(skate_session *s) {
    (void)pthread_mutex_lock(&all.lock);
    for (skate_session **p = &all.sessions; *p; p = &(*p)->next)
        if (*p == s) {
            *p = s->next;
            break;
        }
    (void)pthread_mutex_unlock(&all.lock);
}

/* ---- memory ---- */

static skate_session *session_new(struct core *c) {
    skate_session *s = calloc(1, sizeof *s);

    if (!s) return NULL;
    s->c = c;
    (void)pthread_mutex_init(&s->lock, NULL);
    if (getrandom(&s->salt, sizeof s->salt, 0) != (ssize_t)sizeof s->salt)
        s->salt = (uint32_t)time(NULL);
    s->salt |= 1; /* number 0 is the one that a process was made for */
    return s;
}

static void session_free(skate_session *s) {
    while (s->retries) {
        struct api_retries *r = s->retries;

        s->retries = r->next;
        free(r);
    }
    api_drafts_free(s);
    free(s->event);
    free(s->event_text);
    (void)pthread_mutex_destroy(&s->lock);
    free(s);
}

int api_wrap(struct core *c, const char *name_space, skate_session **ret) {
    skate_session *s = session_new(c);

    if (!s) return -SKATE_ENOMEM;
    s->worker = true;
    (void)snprintf(s->name_space, sizeof s->name_space, "%s", name_space);
    list_add(s);
    *ret = s;
    return 0;
}

void api_unwrap(skate_session *s) {
    list_remove(s);
    session_free(s);
}

/* ---- calls to daemons ---- */

int api_ask(skate_session *s, const void *frame, uint32_t len, uint16_t kind, void **ret) {
    void *answer = NULL;
    uint32_t got = 0;
    int r = core_call(s->c, SKATE_GCS, frame, len, (int64_t)ASK_MS * 1000000, &answer, &got);

    if (r < 0) return api_fail_in(s, r, NULL);
    if (wire_check(answer, got) < 0 || wire_head(answer)->kind != kind) {
        free(answer);
        return api_fail(-SKATE_EPROTO, "the control store gave an answer of another kind");
    }
    *ret = answer;
    return 0;
}

/* ---- the job ---- */

static void random_space(char out[40]) {
    uint8_t b[16] = {0};

    if (getrandom(b, sizeof b, 0) < 0) memset(b, getpid() & 255, sizeof b);
    (void)snprintf(out, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                   b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12],
                   b[13], b[14], b[15]);
}

/* The words of the command line. */
static void command_line(char *out, size_t cap) {
    FILE *f = fopen("/proc/self/cmdline", "re");
    size_t n = f ? fread(out, 1, cap - 1, f) : 0;

    if (f) (void)fclose(f);
    while (n && !out[n - 1]) n--;
    for (size_t i = 0; i < n; i++)
        if (!out[i]) out[i] = ' ';
    out[n] = 0;
}

enum { PATHS_MAX = 64, PATH_BYTES = 4096 };

/* The job's sys.path: the current folder, and PYTHONPATH. Strings in `space`. */
static size_t search_path(const char *cwd, char *space, size_t cap, skate_value *out) {
    const char *p = getenv("PYTHONPATH");
    size_t n = 0, used = 0;

    out[n++] = skate_str(cwd);
    while (p && *p && n < PATHS_MAX) {
        size_t len = strcspn(p, ":");
        int wrote = *p == '/' ? snprintf(space + used, cap - used, "%.*s", (int)len, p)
                              : snprintf(space + used, cap - used, "%s/%.*s", cwd, (int)len, p);

        if (wrote < 0 || used + (size_t)wrote + 1 > cap) break;
        if (len) out[n++] = skate_str(space + used);
        used += (size_t)wrote + 1;
        p += len + (p[len] == ':');
    }
    return n;
}

/* What the job's workers take on: as _job_config() of python/skate/_api.py. */
static int job_config(struct plain_out *o, const char *name_space, const char *command) {
    char cwd[PATH_BYTES] = "/", space[4 * PATH_BYTES], script[128];
    skate_value paths[PATHS_MAX], pairs[16], config;
    const char *name = command;
    size_t n = 0, count, len = strcspn(command, " ");

    if (!getcwd(cwd, sizeof cwd)) cwd[0] = '/', cwd[1] = 0;
    count = search_path(cwd, space, sizeof space, paths);
    for (size_t i = 0; i < len; i++)
        if (command[i] == '/') name = command + i + 1;
    (void)snprintf(script, sizeof script, "%.*s", (int)(command + len - name), name);
    pairs[n++] = skate_str("cwd");
    pairs[n++] = skate_str(cwd);
    pairs[n++] = skate_str("sys_path");
    pairs[n++] = skate_list(paths, count);
    pairs[n++] = skate_str("prefixes");
    pairs[n++] = skate_list(NULL, 0);
    pairs[n++] = skate_str("runtime_env");
    pairs[n++] = skate_map(NULL, 0);
    pairs[n++] = skate_str("alias");
    pairs[n++] = skate_bool(false);
    pairs[n++] = skate_str("script");
    pairs[n++] = skate_str(script);
    pairs[n++] = skate_str("namespace");
    pairs[n++] = skate_str(name_space);
    pairs[n++] = skate_str("actor_lifetime");
    pairs[n++] = skate_str("");
    config = skate_map(pairs, n / 2);
    return plain_pack(o, &config);
}

static int start_job(skate_session *s) {
    char command[1024];
    const struct wire_job_started *m;
    struct wire_job_start *q;
    struct plain_out config;
    void *answer = NULL;
    struct wire_buf b;
    int r;

    command_line(command, sizeof command);
    plain_out_init(&config);
    r = job_config(&config, s->name_space, command);
    wire_init(&b, NULL, 0);
    q = wire_begin(&b, WIRE_JOB_START);
    if (q) {
        q->driver = core_get_info(s->c)->proc;
        q->pid = (uint32_t)getpid();
    }
    WIRE_PUT(&b, job_start, namespace, s->name_space, strlen(s->name_space));
    WIRE_PUT(&b, job_start, entrypoint, command, strlen(command));
    WIRE_PUT(&b, job_start, config, config.out, config.len);
    if (r == 0) r = wire_end(&b);
    if (r < 0) r = api_fail_in(s, r, NULL);
    if (r == 0) r = api_ask(s, b.p, b.len, WIRE_JOB_STARTED, &answer);
    wire_release(&b);
    plain_out_release(&config, s->c);
    if (r < 0) return r;
    m = answer;
    if (m->status < 0) {
        uint32_t n;
        const char *reason = wire_job_started_reason(m, &n);

        r = api_fail(m->status, "the cluster refused this program: %.*s", (int)n, reason);
    } else
        core_set_job(s->c, m->job);
    free(answer);
    return r;
}

/* ---- connect ---- */

/* The options as this library knows them: a caller that was built before has fewer. */
static int take_options(const struct skate_options *given, struct skate_options *o) {
    skate_options_init(o);
    if (!given) return 0;
    if (given->size < sizeof(size_t) || given->size > 4096)
        return api_fail(-SKATE_EINVAL, "begin with skate_options_init(): the struct's size is %zu",
                        given->size);
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    o->size = sizeof *o;
    if (o->name_space && (!*o->name_space || strlen(o->name_space) > 127))
        return api_fail(-SKATE_EINVAL, "a namespace has 1 to 127 bytes; NULL is one of this job");
    if (o->num_cpus < -1 || o->num_cpus > 1000000)
        return api_fail(-SKATE_EINVAL, "num_cpus is 0 or more, or -1; it is %d", (int)o->num_cpus);
    if (o->store_bytes && (o->store_bytes < 1 << 20 || o->store_bytes > machine_memory()))
        return api_fail(-SKATE_EINVAL, "store_bytes is %llu; it must be 1 MiB at least, and fit "
                        "into this machine's memory of %llu bytes",
                        (unsigned long long)o->store_bytes, (unsigned long long)machine_memory());
    return 0;
}

/* The socket of a raylet to join; none: start one. */
static int choose(const struct skate_options *o, char socket_path[API_PATH],
                  struct skate_error *err) {
    bool free_to = o->num_cpus < 0 && !o->store_bytes;
    const char *address = o->address;
    char base[API_PATH], found[API_ADDRESS];
    int r = machine_base(base, err);

    socket_path[0] = 0;
    if (r < 0) return r;
    if (!address) address = getenv("SKATE_ADDRESS");
    if (!address || !*address) address = getenv("RAY_ADDRESS");
    if (address && !strcmp(address, "local")) return 0;
    if (!address || !*address || !strcmp(address, "auto")) {
        bool must = address && *address;

        if ((must || free_to) && machine_cluster(base, found)) address = found;
        else if (must)
            return err_fail(err, -SKATE_ENOENT, "no Skate cluster runs on this machine: start one "
                            "with `skate start --head`, or give no address");
        else
            return 0;
    }
    if (!strncmp(address, "ray://", 6)) address += 6;
    if (!free_to)
        return err_fail(err, -SKATE_EINVAL, "num_cpus and store_bytes are the node's business: "
                        "they cannot be given when joining the cluster %s", address);
    return machine_raylet(base, address, socket_path, err);
}

int skate_connect(const struct skate_options *given, skate_session **ret) {
    char socket_path[API_PATH], space[40];
    struct skate_error err = {{0}};
    struct api_node *node = NULL;
    struct core *c = NULL;
    struct skate_options o;
    struct timespec now;
    skate_session *s;
    int64_t limit;
    int r;

    if (!ret) return api_fail(-SKATE_EINVAL, "ret is NULL");
    r = take_options(given, &o);
    if (r < 0) return r;
    limit = (int64_t)(o.timeout_ms < 0 ? CONNECT_MS : o.timeout_ms) * 1000000;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    r = choose(&o, socket_path, &err);
    if (r == 0 && !socket_path[0])
        r = api_node_start(&o, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + limit, &node, &err);
    if (r == 0) r = core_connect(node ? node->socket_path : socket_path, limit, &c, &err);
    s = r == 0 ? session_new(c) : NULL;
    if (!s) {
        r = api_fail_in(NULL, r < 0 ? r : -SKATE_ENOMEM, &err);
        core_free(c);
        api_node_stop(node);
        return r;
    }
    s->node = node;
    random_space(space);
    (void)snprintf(s->name_space, sizeof s->name_space, "%s", o.name_space ? o.name_space : space);
    list_add(s);
    r = start_job(s);
    if (r < 0) return skate_close(s), r;
    *ret = s;
    return 0;
}

void skate_close(skate_session *s) {
    struct wire_bye bye = {.head = {.size = sizeof bye, .kind = WIRE_BYE, .fixed = sizeof bye}};
    const struct core_info *info;
    void *answer = NULL;
    uint32_t len;

    if (!s || s->worker) return;
    info = core_get_info(s->c);
    if (core_alive(s->c, NULL) && info->job &&
        core_call(s->c, proc_raylet(info->proc), &bye, sizeof bye, (int64_t)BYE_MS * 1000000,
                  &answer, &len) == 0)
        free(answer);
    list_remove(s);
    core_free(s->c);
    if (s->node && s->node->gcs_in >= 0) api_node_stop(s->node); /* not a forked child's */
    session_free(s);
}

void skate_interrupt(skate_session *s) { (void)at_add_seq(&s->interrupts, 1); }

const char *skate_version(void) { return SKATE_VERSION; }
