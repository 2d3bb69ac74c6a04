/* near.c - see near.h. */
#include "raylet/near.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096, FILE_BYTES = HEAD_BYTES + NEAR_SLOTS * NEAR_CHUNK };

struct near {
    uint8_t *map;
    int fd; /* receiver; else -1 */
    uint32_t taken; /* bit of each place */
    bool agreed, used, dirty; /* used: since the last beat; dirty: since pages were given back */
};

static struct near *near_of(int fd, int keep_fd) {
    void *map = mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct near *n = map == MAP_FAILED ? NULL : calloc(1, sizeof *n);

    if (n)
        *n = (struct near){.map = map, .fd = keep_fd};
    else if (map != MAP_FAILED)
        (void)munmap(map, FILE_BYTES);
    return n;
}

struct near *near_offer(struct wire_bulk_near *ret) {
    uint64_t secret[2];
    struct near *n = NULL;
    int fd = memfd_create("skate-near", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0) return NULL;
    if (getrandom(secret, sizeof secret, 0) == (ssize_t)sizeof secret &&
        ftruncate(fd, FILE_BYTES) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        n = near_of(fd, fd);
    if (!n) {
        (void)close(fd);
        return NULL;
    }
    memcpy(n->map, secret, sizeof secret);
    *ret = (struct wire_bulk_near){
        .head = {.size = sizeof *ret, .kind = WIRE_BULK_NEAR, .fixed = sizeof *ret},
        .secret0 = secret[0], .secret1 = secret[1], .pid = (uint32_t)getpid(),
        .fd = (uint32_t)fd};
    return n;
}

/* The file, if it has our form: it cannot be cut under our eyes. */
static int open_file(const struct wire_bulk_near *m) {
    struct stat s;
    char path[64];
    int fd, seals;

    snprintf(path, sizeof path, "/proc/%u/fd/%u", m->pid, m->fd);
    if (stat(path, &s) < 0 || !S_ISREG(s.st_mode) || s.st_size != FILE_BYTES) return -1;
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -1;
    seals = fcntl(fd, F_GET_SEALS);
    if (seals >= 0 && (seals & F_SEAL_SHRINK) && fstat(fd, &s) == 0 && s.st_size == FILE_BYTES)
        return fd;
    (void)close(fd);
    return -1;
}

struct near *near_open(const struct wire_bulk_near *m) {
    uint64_t secret[2] = {m->secret0, m->secret1};
    int fd = open_file(m);
    struct near *n = fd < 0 ? NULL : near_of(fd, -1);

    if (fd >= 0) (void)close(fd);
    if (n && memcmp(n->map, secret, sizeof secret) != 0) n = near_free(n);
    return n;
}

void near_agreed(struct near *n) {
    if (n) n->agreed = true;
}

bool near_is_used(const struct near *n) { return n && n->agreed; }

uint32_t near_take(struct near *n) {
    uint32_t i = 0;

    if (!near_is_used(n)) return 0;
    while (i < NEAR_SLOTS && (n->taken & (uint32_t)1 << i)) i++;
    if (i == NEAR_SLOTS) return 0;
    n->taken |= (uint32_t)1 << i;
    n->used = n->dirty = true;
    return i + 1;
}

static bool is_taken(const struct near *n, uint32_t place) {
    return n && place > 0 && place <= NEAR_SLOTS && (n->taken & 1u << (place - 1));
}

void near_give(struct near *n, uint32_t place) {
    if (is_taken(n, place)) n->taken &= ~(1u << (place - 1));
}

static uint8_t *place_of(const struct near *n, uint32_t place) {
    return n->map + HEAD_BYTES + (size_t)(place - 1) * NEAR_CHUNK;
}

const uint8_t *near_at(const struct near *n, uint32_t place) {
    return is_taken(n, place) ? place_of(n, place) : NULL;
}

uint8_t *near_room(struct near *n, uint32_t place, uint64_t bytes) {
    if (!n || place == 0 || place > NEAR_SLOTS || bytes > NEAR_CHUNK) return NULL;
    return place_of(n, place);
}

void near_beat(struct near *n) {
    if (!n || n->fd < 0) return;
    if (n->dirty && !n->used && !n->taken) {
        (void)fallocate(n->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HEAD_BYTES,
                        FILE_BYTES - HEAD_BYTES);
        n->dirty = false;
    }
    n->used = false;
}

struct near *near_free(struct near *n) {
    if (!n) return NULL;
    (void)munmap(n->map, FILE_BYTES);
    if (n->fd >= 0) (void)close(n->fd);
    free(n);
    return NULL;
}
