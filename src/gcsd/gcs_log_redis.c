/* gcs_log_redis.c - the log in a Redis server: one hash of rows, and the epoch beside it.
 *
 * A field is the table's number and the key, its value the row's sum and value. A commit is WATCH
 * of the epoch, then MULTI ... EXEC: it does not happen when somebody has raised the epoch. It
 * leaves its number beside the epoch, by which the next one sees that Redis has lost it. The
 * connection is a plain blocking socket of the log's thread, made anew after any failure; a commit
 * whose answer was lost is said again, which changes nothing. Durable means: as Redis is set up
 * (appendonly yes, appendfsync always). Of hiredis only the writer and reader of its protocol. */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "gcsd/gcs_log_int.h"

enum { WAIT_S = 10, FIELD_MAX = 2048, ELEMENTS_MAX = 100000, ARGS_MAX = 2002 };
#define REPLY_BYTES_MAX (UINT64_C(3) << 30)
#define PART_BYTES (UINT64_C(4) << 20) /* of fields and values in one command */

struct redis {
    char host[256], port[16], user[128], password[512];
    char log_key[320], epoch_key[320], seq_key[320];
    int fd; /* -1: not connected */
    redisReader *reader;
    redisReplyObjectFunctions functions;
    uint8_t *out; /* commands to be sent */
    size_t used, room;
};

static int trouble(struct redis *r, struct skate_error *err, const char *text) {
    if (r->fd >= 0) (void)close(r->fd);
    r->fd = -1;
    return err_fail(err, -SKATE_EIO, "Redis at %s:%s: %.300s", r->host, r->port, text);
}

/* ------------------------------------------------------------------ commands and answers */

static void add(struct redis *r, int argc, const char **argv, const size_t *lens) {
    char *text = NULL;
    int n = redisFormatCommandArgv(&text, argc, argv, lens);

    SKATE_ASSERT(n >= 0);
    if (r->room < r->used + (size_t)n) {
        size_t room = r->room ? r->room : 65536;

        while (room < r->used + (size_t)n) room *= 2;
        r->out = realloc(r->out, room);
        SKATE_ASSERT(r->out);
        r->room = room;
    }
    memcpy(r->out + r->used, text, (size_t)n);
    r->used += (size_t)n;
    free(text);
}

/* Words up to NULL. */
static void say(struct redis *r, const char *word, ...) {
    const char *argv[8];
    size_t lens[8];
    va_list rest;
    int n = 0;

    va_start(rest, word);
    for (; word && n < 8; word = va_arg(rest, const char *)) {
        argv[n] = word;
        lens[n++] = strlen(word);
    }
    va_end(rest);
    add(r, n, argv, lens);
}

static int flush(struct redis *r, struct skate_error *err) {
    size_t at = 0;

    while (at < r->used) {
        ssize_t n = send(r->fd, r->out + at, r->used - at, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            r->used = 0;
            return trouble(r, err, n < 0 && errno == EAGAIN ? "it does not read" : strerror(errno));
        }
        at += (size_t)n;
    }
    r->used = 0;
    return 0;
}

static int read_reply(struct redis *r, redisReply **ret, struct skate_error *err) {
    uint64_t fed = 0;
    char bytes[65536];
    void *reply = NULL;

    for (;;) {
        ssize_t n;

        if (redisReaderGetReply(r->reader, &reply) != REDIS_OK)
            return trouble(r, err, r->reader->errstr);
        if (reply) break;
        n = recv(r->fd, bytes, sizeof bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return trouble(r, err, n == 0 ? "it closed the connection"
                           : errno == EAGAIN ? "it does not answer" : strerror(errno));
        fed += (uint64_t)n;
        if (fed > REPLY_BYTES_MAX || redisReaderFeed(r->reader, bytes, (size_t)n) != REDIS_OK)
            return trouble(r, err, "an answer that is too large");
    }
    *ret = reply;
    return 0;
}

/* The next answer; an error of Redis is one of ours, and `reply` NULL then. */
static int answer(struct redis *r, redisReply **ret, struct skate_error *err) {
    redisReply *reply = NULL;
    int e = read_reply(r, &reply, err);

    *ret = NULL;
    if (e < 0) return e;
    if (reply->type == REDIS_REPLY_ERROR) {
        bool auth = strstr(reply->str, "AUTH") || strstr(reply->str, "WRONGPASS") ||
                    strstr(reply->str, "NOPERM");

        (void)trouble(r, err, reply->str);
        freeReplyObject(reply);
        if (!auth) return -SKATE_EIO;
        return err_fail(err, -SKATE_EAUTH, "Redis at %s:%s refuses us: give the right "
                        "--redis-username and --redis-password", r->host, r->port);
    }
    *ret = reply;
    return 0;
}

static int ask(struct redis *r, redisReply **ret, struct skate_error *err) {
    int e = flush(r, err);

    return e < 0 ? e : answer(r, ret, err);
}

/* ------------------------------------------------------------------ the connection */

static void *(*make_array)(const redisReadTask *, int);

/* The reader would allocate whatever number it is told. */
static void *bounded_array(const redisReadTask *task, int elements) {
    return elements > ELEMENTS_MAX ? NULL : make_array(task, elements);
}

static int dial(const struct addrinfo *a) {
    struct timeval wait = {.tv_sec = WAIT_S};
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol), on = 1;

    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait); /* connect()'s, too */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0) return fd;
    (void)close(fd);
    return -1;
}

static int connected(struct redis *r, struct skate_error *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    redisReply *reply;
    int e;

    if (r->fd >= 0) return 0;
    e = getaddrinfo(r->host, r->port, &hints, &found);
    if (e != 0) return trouble(r, err, gai_strerror(e));
    for (const struct addrinfo *a = found; a && r->fd < 0; a = a->ai_next) r->fd = dial(a);
    e = errno;
    freeaddrinfo(found);
    if (r->fd < 0) return trouble(r, err, strerror(e));
    if (r->reader) redisReaderFree(r->reader);
    r->reader = redisReaderCreate();
    SKATE_ASSERT(r->reader);
    r->functions = *r->reader->fn;
    make_array = r->functions.createArray;
    r->functions.createArray = bounded_array;
    r->reader->fn = &r->functions;
    r->used = 0;
    if (r->password[0] && r->user[0])
        say(r, "AUTH", r->user, r->password, NULL);
    else if (r->password[0])
        say(r, "AUTH", r->password, NULL);
    else
        say(r, "PING", NULL);
    e = ask(r, &reply, err);
    if (e == 0) freeReplyObject(reply);
    return e;
}

static int split(const char *address, struct redis *r) {
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : strlen(address);

    if (n == 0 || n >= sizeof r->host || strstr(address, "://")) return -SKATE_EINVAL;
    memcpy(r->host, address, n);
    (void)snprintf(r->port, sizeof r->port, "%s", colon ? colon + 1 : "6379");
    return strspn(r->port, "0123456789") == strlen(r->port) && r->port[0] ? 0 : -SKATE_EINVAL;
}

static void place_close(void *self) {
    struct redis *r = self;

    if (r->fd >= 0) (void)close(r->fd);
    if (r->reader) redisReaderFree(r->reader);
    explicit_bzero(r->password, sizeof r->password);
    free(r->out);
    free(r);
}

static int place_open(const struct gcs_log_opts *opts, void **ret, struct skate_error *err) {
    struct redis *r = calloc(1, sizeof *r);
    const char *name = opts->name && opts->name[0] ? opts->name : "default";
    int e;

    if (!r) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    r->fd = -1;
    if (split(opts->redis, r) < 0 || strlen(name) > 200) {
        free(r);
        return err_fail(err, -SKATE_EINVAL, "the address of Redis must be like host:port (without "
                        "rediss://: TLS to Redis is not there), not %.200s", opts->redis);
    }
    (void)snprintf(r->user, sizeof r->user, "%s", opts->user ? opts->user : "");
    (void)snprintf(r->password, sizeof r->password, "%s", opts->password ? opts->password : "");
    (void)snprintf(r->log_key, sizeof r->log_key, "skate:{%s}:log", name);
    (void)snprintf(r->epoch_key, sizeof r->epoch_key, "skate:{%s}:epoch", name);
    (void)snprintf(r->seq_key, sizeof r->seq_key, "skate:{%s}:seq", name);
    e = connected(r, err);
    if (e < 0) {
        place_close(r);
        return e;
    }
    *ret = r;
    return 0;
}

/* A number that is kept beside the rows; 0: it is not there. -SKATE_EPROTO: it is none. */
static int number_of(struct redis *r, redisReply *reply, uint64_t *ret, struct skate_error *err) {
    char *end = NULL;

    *ret = 0;
    if (reply->type == REDIS_REPLY_STRING && reply->str[0] >= '0' && reply->str[0] <= '9')
        *ret = strtoull(reply->str, &end, 10);
    if (reply->type == REDIS_REPLY_NIL || (end && *end == 0)) return 0;
    return err_fail(err, -SKATE_EPROTO, "Redis at %s:%s: what lies under %s is not ours", r->host,
                    r->port, r->epoch_key);
}

struct seen { /* beside the rows */
    uint64_t epoch, seq; /* seq: of the last commit */
    bool rows;           /* there are some */
};

/* Watch the epoch from now on, and see what is there. */
static int look(struct redis *r, struct seen *ret, struct skate_error *err) {
    uint64_t *const to[] = {&ret->epoch, &ret->seq};
    redisReply *reply;
    int e;

    say(r, "WATCH", r->epoch_key, NULL);
    say(r, "EXISTS", r->log_key, NULL);
    say(r, "GET", r->epoch_key, NULL);
    say(r, "GET", r->seq_key, NULL);
    e = ask(r, &reply, err);
    if (e < 0) return e;
    freeReplyObject(reply);
    e = answer(r, &reply, err);
    if (e < 0) return e;
    ret->rows = reply->type == REDIS_REPLY_INTEGER && reply->integer == 1;
    freeReplyObject(reply);
    for (int i = 0; i < 2; i++) {
        int bad;

        e = answer(r, &reply, err);
        if (e < 0) return e;
        bad = number_of(r, reply, to[i], err);
        freeReplyObject(reply);
        if (bad < 0) return bad;
    }
    return 0;
}

/* EXEC after `commands` of it; -SKATE_EIO: it was not done, the next try sees why. */
static int exec(struct redis *r, uint32_t commands, struct skate_error *err) {
    redisReply *reply;
    bool done;
    int e;

    say(r, "EXEC", NULL);
    e = flush(r, err);
    for (; e == 0 && commands > 0; commands--) {
        e = answer(r, &reply, err);
        if (e == 0) freeReplyObject(reply);
    }
    if (e == 0) e = answer(r, &reply, err);
    if (e < 0) return e;
    done = reply->type == REDIS_REPLY_ARRAY;
    for (size_t i = 0; done && i < reply->elements; i++)
        done = reply->element[i]->type != REDIS_REPLY_ERROR;
    freeReplyObject(reply);
    return done ? 0 : trouble(r, err, "the transaction was not done");
}

static void say_number(struct redis *r, const char *key, uint64_t number) {
    char text[32];

    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    say(r, "SET", key, text, NULL);
}

static int place_raise(void *self, uint64_t *ret_epoch, struct skate_error *err) {
    struct redis *r = self;
    uint64_t least = log_epoch_least();
    struct seen was;
    int e = connected(r, err);

    if (e == 0) e = look(r, &was, err);
    if (e < 0) return e;
    *ret_epoch = was.epoch + 1 > least ? was.epoch + 1 : least;
    say(r, "MULTI", NULL);
    say_number(r, r->epoch_key, *ret_epoch);
    return exec(r, 2, err);
}

/* ------------------------------------------------------------------ rows */

static void give_row(const redisReply *field, const redisReply *value,
                     void (*on_row)(void *arg, const struct log_row *row), void *arg) {
    static const uint8_t none[ROW_SUM];
    struct log_row row = {.key = "", .value = "", .sum = none};

    if (field->len >= 1) {
        row.table = (uint8_t)field->str[0];
        row.key = field->str + 1;
        row.key_len = (uint32_t)field->len - 1;
    }
    if (value->len >= ROW_SUM) {
        row.sum = (const uint8_t *)value->str;
        row.value = value->str + ROW_SUM;
        row.len = (uint32_t)value->len - ROW_SUM;
    }
    on_row(arg, &row);
}

static int place_load(void *self, void (*on_row)(void *arg, const struct log_row *row), void *arg,
                      struct skate_error *err) {
    struct redis *r = self;
    char cursor[32] = "0";
    int e = connected(r, err);

    while (e == 0) {
        redisReply *reply, *rows;

        say(r, "HSCAN", r->log_key, cursor, "COUNT", "1000", NULL);
        e = ask(r, &reply, err);
        if (e < 0) break;
        rows = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 ? reply->element[1] : NULL;
        if (!rows || rows->type != REDIS_REPLY_ARRAY || !reply->element[0]->str) {
            freeReplyObject(reply);
            return trouble(r, err, "it is no Redis");
        }
        (void)snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        for (size_t i = 0; i + 1 < rows->elements; i += 2)
            if (rows->element[i]->str && rows->element[i + 1]->str)
                give_row(rows->element[i], rows->element[i + 1], on_row, arg);
        freeReplyObject(reply);
        if (!strcmp(cursor, "0")) break;
    }
    return e;
}

/* Is the epoch still ours, and all that we have committed there? It is watched from now on. */
static int check_fence(struct redis *r, const struct log_batch *b, struct skate_error *err) {
    struct seen is;
    int e = look(r, &is, err);

    if (e < 0) return e;
    if (is.epoch > b->epoch)
        return err_fail(err, -SKATE_ESTALE, "another head has opened the log in Redis at %s:%s",
                        r->host, r->port);
    if (b->anew || (is.epoch == b->epoch && is.rows == (is.seq > 0) &&
                    (is.seq + 1 == b->seq || is.seq == b->seq)))
        return 0;
    return err_fail(err, -SKATE_ENOENT, "Redis at %s:%s has lost what it had", r->host, r->port);
}

/* One HSET or HDEL of rows from `from` on that are of one kind; which row comes next. */
static uint32_t put_some(struct redis *r, const struct log_batch *b, uint32_t from) {
    bool gone = !b->rows[from].value;
    const char **argv = calloc(ARGS_MAX, sizeof *argv);
    size_t *lens = calloc(ARGS_MAX, sizeof *lens);
    uint64_t bytes = 0;
    char *room = NULL, *at;
    uint32_t end = from;
    int n = 2;

    SKATE_ASSERT(argv && lens);
    while (end < b->count && !b->rows[end].value == gone && end - from < 1000 &&
           bytes < PART_BYTES) {
        bytes += 1ull + b->rows[end].key_len + ROW_SUM + b->rows[end].len;
        end++;
    }
    room = at = malloc(bytes);
    SKATE_ASSERT(room);
    argv[0] = gone ? "HDEL" : "HSET";
    lens[0] = 4;
    argv[1] = r->log_key;
    lens[1] = strlen(r->log_key);
    for (uint32_t i = from; i < end; i++) {
        const struct log_row *row = &b->rows[i];

        argv[n] = at;
        lens[n++] = 1 + row->key_len;
        *at++ = (char)row->table;
        memcpy(at, row->key, row->key_len);
        at += row->key_len;
        if (gone) continue;
        argv[n] = at;
        lens[n++] = ROW_SUM + row->len;
        memcpy(at, row->sum, ROW_SUM);
        memcpy(at + ROW_SUM, row->value, row->len);
        at += ROW_SUM + row->len;
    }
    add(r, n, argv, lens);
    free(room);
    free(argv);
    free(lens);
    return end;
}

static int place_commit(void *self, const struct log_batch *b, struct skate_error *err) {
    struct redis *r = self;
    uint32_t commands = 2, at = 0;
    int e = connected(r, err);

    if (e == 0) e = check_fence(r, b, err);
    if (e < 0) return e;
    say(r, "MULTI", NULL);
    say_number(r, r->seq_key, b->seq);
    if (b->anew) {
        say_number(r, r->epoch_key, b->epoch);
        say(r, "DEL", r->log_key, NULL);
        commands += 2;
    }
    while (at < b->count) {
        at = put_some(r, b, at);
        commands++;
    }
    return exec(r, commands, err);
}

static uint64_t place_witness(void *self) {
    struct skate_error unused = {""};
    struct seen is;

    return look(self, &is, &unused) < 0 ? 0 : is.seq;
}

static int place_renew(void *self, uint64_t epoch, struct skate_error *err) {
    struct redis *r = self;
    char aside[400];
    redisReply *reply;
    int e = connected(r, err);

    (void)epoch; /* it stays beside the rows */
    if (e < 0) return e;
    (void)snprintf(aside, sizeof aside, "%s.damaged-%lld", r->log_key, (long long)time(NULL));
    say(r, "RENAME", r->log_key, aside, NULL);
    e = flush(r, err);
    if (e == 0) e = read_reply(r, &reply, err);
    if (e < 0) return e;
    freeReplyObject(reply); /* an error: there was nothing */
    return 0;
}

const struct log_place log_redis = {.open = place_open, .raise = place_raise, .load = place_load,
                                    .commit = place_commit, .witness = place_witness,
                                    .renew = place_renew, .close = place_close};
