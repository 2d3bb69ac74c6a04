/* fuzz_helper.c - what a raylet makes of the answers of its helper processes, whatever they are: of
 * the one that spills to URIs (its replies and texts, cut anywhere, and its end), and of the zygote
 * (that forked what was never asked, pids that mean others, ends of anybody). */
#define spawn spill_spawn
#define boot spill_boot
#define send_all spill_send_all
#include "../../src/raylet/spill_remote.c"
#undef spawn
#undef boot
#undef send_all

#include "../../src/raylet/forks.c"

#include "fuzz.h"

/* ------------------------------------------------------------------ what forks.c calls */

static struct proc procs[4];
static uint64_t noted;

struct proc *proc_find(struct raylet *r, uint64_t id) {
    (void)r;
    return id >= 1 && id <= 4 ? &procs[id - 1] : NULL;
}
void pool_fork_lost(struct raylet *r, struct proc *p) {
    (void)r;
    if (p->pid) abort(); /* it was there */
    noted++;
}
void pool_forked(struct raylet *r, struct proc *p, int pid) {
    (void)r;
    if (pid < 2 || p->pid) abort();
    p->pid = (uint32_t)pid;
}
void death_of_pid(struct raylet *r, pid_t pid, int status, uint64_t peak) {
    (void)r;
    noted += (uint64_t)pid + (uint64_t)status + peak;
}
void death_of(struct proc *p, int sig, int code) {
    p->pid = 0;
    noted += (uint64_t)(sig + code);
}
void pool_kick(struct raylet *r, struct job *j) { (void)r, (void)j; }
void procs_tell_drivers(struct raylet *r, uint32_t kind, const char *text) {
    (void)r, (void)kind;
    noted += strlen(text);
}
void node_log(const char *format, ...) { noted += strlen(format); }

static void from_zygote(struct fuzz_in *in) {
    static struct raylet *ray;

    if (!ray) ray = calloc(1, sizeof *ray);
    for (int i = 0; i < 4; i++)
        procs[i] = (struct proc){.state = fuzz_below(in, 2) ? PROC_STARTING : PROC_LIVE};
    while (in->left) {
        static const uint16_t kinds[] = {WIRE_FORKED, WIRE_FORKED, WIRE_EXITED};
        struct wire_buf b;

        wire_init(&b, NULL, 0);
        fuzz_frame(in, fuzz_below(in, 4) ? kinds[fuzz_below(in, 3)] : fuzz_kind(in), 1, &b);
        if (wire_check(b.p, b.len) == 0) zygote_events.on_frame(ray, b.p, b.len);
        wire_release(&b);
    }
    zygote_events.on_close(ray, -SKATE_EPROTO);
}

/* ------------------------------------------------------------------ answers of the helper */

/* The answer to this request: true, nearly, or bytes; then the socket's end. */
static void put_answer(int fd, const struct request *q, struct fuzz_in *in) {
    static uint8_t room[sizeof(struct reply) + TEXT_MAX + 100];
    struct reply r = {0x31504B53, q->op, fuzz_below(in, 7), fuzz_below(in, 40), q->file,
                      fuzz_word(in)};
    size_t n = sizeof r;

    if (fuzz_below(in, 4) == 1) r.op = (uint32_t)fuzz_word(in);
    if (fuzz_below(in, 8) == 1) r.file = fuzz_word(in);
    if (fuzz_below(in, 8) == 1) r.magic ^= 1;
    if (fuzz_below(in, 4) == 1)
        r.text = fuzz_below(in, 2) ? TEXT_MAX + fuzz_below(in, 3) : (uint32_t)fuzz_word(in);
    memcpy(room, &r, sizeof r);
    while (n < sizeof room && n < sizeof r + r.text + 20 && in->left)
        room[n++] = (uint8_t)fuzz_bytes(in, 1);
    if (fuzz_below(in, 8) == 1) n = fuzz_below(in, (uint32_t)n);
    if (send(fd, room, n, MSG_NOSIGNAL) < 0) abort();
    (void)shutdown(fd, SHUT_WR);
}

static void from_helper(struct fuzz_in *in) {
    struct request q = {.magic = 0x31504B53, .op = 1 + fuzz_below(in, 4), .file = fuzz_word(in)};
    struct skate_error err = {""};
    int pair[2], e;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) abort();
    put_answer(pair[1], &q, in);
    e = answer(pair[0], &q, 1000, &err);
    if (e > 0 || strlen(err.text) >= sizeof err.text || (e < 0 && !err.text[0] && in->left > 60))
        noted++;
    close(pair[0]);
    close(pair[1]);
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};

    if (fuzz_below(&in, 2))
        from_zygote(&in);
    else
        from_helper(&in);
    return 0;
}
