/*
 * A switch between network namespaces that treats packets badly: delay with jitter, loss,
 * duplication, reordering, one way or both. It needs no kernel module but tun.
 *
 * Each port is a tun device `eth0` that is made inside a namespace; an IPv4 packet goes to the port
 * whose number is the last byte of its destination. Commands are lines on stdin, each answered by
 * one line, "ok ..." or "error ...":
 *
 *   add PORT PATH            a device in the namespace PATH (/run/netns/...)
 *   remove PORT
 *   set FROM TO KEY=VALUE... FROM, TO: a port or *; keys: delay, jitter (microseconds), loss, dup,
 *                            reorder (percent, fractions allowed). Keys not named become 0.
 *   stats                    packets passed, lost, doubled, held back, refused for want of room
 *
 * delay +- jitter keeps the order between two ports; a packet that is reordered waits up to
 * 20 ms longer and lets others overtake it. The end of stdin is the end of the program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define PORTS 64
#define MTU 65536
#define HELD_MAX 200000       /* packets; more are dropped, as a full router does */
#define HELD_BYTES (256 << 20) /* and their bytes */
#define BATCH 64              /* packets from one port before the others have their turn */
#define BEHIND_NS 20000000    /* what a reordered packet waits longer, at most */

struct way {                  /* from one port to another */
    int64_t delay_ns, jitter_ns, last_ns; /* last_ns: when the latest packet in order leaves */
    double loss, dup, reorder; /* 0..1 */
};

struct held {
    int64_t due_ns;
    uint64_t number;          /* order of equal times */
    uint32_t size, to;
    unsigned char *bytes;
};

struct stats {
    uint64_t passed, lost, doubled, behind, refused;
};

static int ports[PORTS];
static struct way ways[PORTS][PORTS];
static struct held *heap;
static size_t held_count, held_bytes;
static uint64_t next_number, dice_state;
static struct stats stats;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* 0 <= x < 1 (xorshift64*) */
static double dice(void)
{
    dice_state ^= dice_state >> 12;
    dice_state ^= dice_state << 25;
    dice_state ^= dice_state >> 27;
    return (double)((dice_state * 2685821657736338717ULL) >> 11) / 9007199254740992.0;
}

static int sooner(const struct held *a, const struct held *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->number < b->number;
}

static void heap_push(struct held packet)
{
    size_t at = held_count++;
    while (at && sooner(&packet, &heap[(at - 1) / 2])) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = packet;
    held_bytes += packet.size;
}

static struct held heap_pop(void)
{
    struct held first = heap[0], last = heap[--held_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= held_count) break;
        if (child + 1 < held_count && sooner(&heap[child + 1], &heap[child])) child++;
        if (!sooner(&heap[child], &last)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    held_bytes -= first.size;
    return first;
}

/* A packet that its device does not take is lost, as on any wire. */
static void deliver(uint32_t to, const unsigned char *bytes, size_t size)
{
    if (ports[to] >= 0 && write(ports[to], bytes, size) == (ssize_t)size)
        stats.passed++;
    else
        stats.refused++;
}

static void hold(uint32_t to, const unsigned char *bytes, size_t size, int64_t due_ns)
{
    struct held packet = {due_ns, next_number++, (uint32_t)size, to, NULL};
    if (held_count == HELD_MAX || held_bytes + size > HELD_BYTES ||
        !(packet.bytes = malloc(size))) {
        stats.refused++;
        return;
    }
    memcpy(packet.bytes, bytes, size);
    heap_push(packet);
}

static void send_once(struct way *w, uint32_t to, const unsigned char *bytes, size_t size)
{
    int64_t now = now_ns(), due = now + w->delay_ns;
    if (w->jitter_ns) due += (int64_t)((2 * dice() - 1) * (double)w->jitter_ns);
    if (w->reorder > 0 && dice() < w->reorder) {
        stats.behind++;
        hold(to, bytes, size, (due < now ? now : due) + 1 + (int64_t)(dice() * BEHIND_NS));
        return;
    }
    if (due < w->last_ns) due = w->last_ns;
    w->last_ns = due;
    if (due <= now)
        deliver(to, bytes, size);
    else
        hold(to, bytes, size, due);
}

static void forward(uint32_t from, const unsigned char *bytes, size_t size)
{
    if (size < 20 || bytes[0] >> 4 != 4) return; /* IPv4 only */
    uint32_t to = bytes[19];
    if (to >= PORTS || ports[to] < 0 || to == from) return;
    struct way *w = &ways[from][to];
    if (w->loss > 0 && dice() < w->loss) {
        stats.lost++;
        return;
    }
    send_once(w, to, bytes, size);
    if (w->dup > 0 && dice() < w->dup) {
        stats.doubled++;
        send_once(w, to, bytes, size);
    }
}

static void read_port(uint32_t from)
{
    static unsigned char bytes[MTU];
    for (int i = 0; i < BATCH; i++) {
        ssize_t size = read(ports[from], bytes, sizeof(bytes));
        if (size < 0 && errno != EAGAIN && errno != EINTR) { /* its namespace is gone */
            close(ports[from]);
            ports[from] = -1;
        }
        if (size <= 0) return;
        forward(from, bytes, (size_t)size);
    }
}

/* A tun device in a namespace: its descriptor, or -errno. */
static int open_port(const char *path)
{
    struct ifreq want = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), fd = -1, rc = 0;
    int there = open(path, O_RDONLY | O_CLOEXEC);
    memcpy(want.ifr_name, "eth0", 5);
    if (home < 0 || there < 0 || setns(there, CLONE_NEWNET)) {
        rc = -errno;
    } else {
        fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || ioctl(fd, TUNSETIFF, &want)) rc = -errno;
        if (setns(home, CLONE_NEWNET)) abort();
    }
    if (home >= 0) close(home);
    if (there >= 0) close(there);
    if (rc && fd >= 0) close(fd);
    return rc ? rc : fd;
}

static int parse_port(const char *word, int *first, int *last)
{
    if (!word) return -1;
    char *end;
    long n = strtol(word, &end, 10);
    *first = 0;
    *last = PORTS - 1;
    if (!strcmp(word, "*")) return 0;
    if (*end || end == word || n < 0 || n >= PORTS) return -1;
    *first = *last = (int)n;
    return 0;
}

static int parse_way(struct way *w, char **rest)
{
    memset(w, 0, sizeof(*w));
    for (char *word; (word = strtok_r(NULL, " \n", rest));) {
        char *value = strchr(word, '='), *end;
        if (!value) return -1;
        *value++ = 0;
        double x = strtod(value, &end);
        if (*end || end == value || !(x >= 0 && x < 1e9)) return -1;
        if (!strcmp(word, "delay")) w->delay_ns = (int64_t)(x * 1000);
        else if (!strcmp(word, "jitter")) w->jitter_ns = (int64_t)(x * 1000);
        else if (!strcmp(word, "loss")) w->loss = x / 100;
        else if (!strcmp(word, "dup")) w->dup = x / 100;
        else if (!strcmp(word, "reorder")) w->reorder = x / 100;
        else return -1;
    }
    return 0;
}

static int set_ways(char **rest)
{
    int from, from_last, to, to_last;
    struct way w;
    if (parse_port(strtok_r(NULL, " \n", rest), &from, &from_last) ||
        parse_port(strtok_r(NULL, " \n", rest), &to, &to_last) || parse_way(&w, rest))
        return -EINVAL;
    for (int i = from; i <= from_last; i++)
        for (int j = to; j <= to_last; j++) {
            w.last_ns = ways[i][j].last_ns;
            ways[i][j] = w;
        }
    return 0;
}

static int add_port(char **rest)
{
    int port, last, fd;
    if (parse_port(strtok_r(NULL, " \n", rest), &port, &last) || port != last) return -EINVAL;
    char *path = strtok_r(NULL, " \n", rest);
    if (!path) return -EINVAL;
    if (ports[port] >= 0) return -EEXIST;
    if ((fd = open_port(path)) < 0) return fd;
    ports[port] = fd;
    return 0;
}

static int remove_port(char **rest)
{
    int port, last;
    if (parse_port(strtok_r(NULL, " \n", rest), &port, &last) || port != last) return -EINVAL;
    if (ports[port] < 0) return -ENOENT;
    close(ports[port]);
    ports[port] = -1;
    return 0;
}

static void command(char *line)
{
    char *rest, *word = strtok_r(line, " \n", &rest);
    int rc = -EINVAL;
    if (word && !strcmp(word, "add")) rc = add_port(&rest);
    if (word && !strcmp(word, "remove")) rc = remove_port(&rest);
    if (word && !strcmp(word, "set")) rc = set_ways(&rest);
    if (word && !strcmp(word, "stats")) {
        printf("ok passed=%lu lost=%lu doubled=%lu behind=%lu refused=%lu\n", stats.passed,
               stats.lost, stats.doubled, stats.behind, stats.refused);
        return;
    }
    if (rc) printf("error %s\n", strerror(-rc));
    else printf("ok\n");
}

/* Whole lines of stdin. 0 at its end. */
static int read_commands(void)
{
    static char text[8192];
    static size_t have;
    ssize_t size = read(0, text + have, sizeof(text) - 1 - have);
    if (size <= 0) return size < 0 && (errno == EAGAIN || errno == EINTR);
    have += (size_t)size;
    text[have] = 0;
    for (char *end; (end = strchr(text, '\n'));) {
        *end = 0;
        command(text);
        have -= (size_t)(end + 1 - text);
        memmove(text, end + 1, have + 1);
    }
    fflush(stdout);
    return have < sizeof(text) - 1;
}

/* Sends what is due; nanoseconds to the next, -1: none. */
static int64_t send_due(void)
{
    int64_t now = now_ns();
    while (held_count && heap[0].due_ns <= now) {
        struct held packet = heap_pop();
        deliver(packet.to, packet.bytes, packet.size);
        free(packet.bytes);
    }
    return held_count ? heap[0].due_ns - now : -1;
}

int main(int argc, char **argv)
{
    struct pollfd watched[PORTS + 1];
    dice_state = (argc > 1 ? strtoull(argv[1], NULL, 10) : 1) * 2 + 0x9e3779b97f4a7c15ULL;
    for (int i = 0; i < PORTS; i++) ports[i] = -1;
    if (!(heap = calloc(HELD_MAX, sizeof(*heap)))) return 1;
    for (;;) {
        int64_t wait = send_due();
        struct timespec limit = {wait / 1000000000, wait % 1000000000};
        for (int i = 0; i < PORTS; i++) watched[i] = (struct pollfd){ports[i], POLLIN, 0};
        watched[PORTS] = (struct pollfd){0, POLLIN, 0};
        if (ppoll(watched, PORTS + 1, wait < 0 ? NULL : &limit, NULL) < 0 && errno != EINTR)
            return 1;
        for (uint32_t i = 0; i < PORTS; i++)
            if (watched[i].revents && ports[i] >= 0) read_port(i);
        if (watched[PORTS].revents && !read_commands()) return 0;
    }
}
