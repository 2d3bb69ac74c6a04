/* rejoin.c - see rejoin.h. */
#include "raylet/rejoin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "raylet/gcs_link.h"
#include "raylet/raylet.h"

static int number(const char *text, uint64_t most, uint64_t *ret) {
    unsigned long long n;
    char *end;

    if (*text < '0' || *text > '9') return -SKATE_EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno || *end || n > most) return -SKATE_EINVAL;
    *ret = n;
    return 0;
}

int rejoin_args(int argc, char *const *argv, struct rejoin *ret) {
    uint64_t fd = 0;

    *ret = (struct rejoin){0};
    if (argc < 2) return 0;
    if (argc != REJOIN_ARGS || strcmp(argv[1], "--rejoin") != 0 ||
        number(argv[2], 1 << 20, &fd) < 0 || number(argv[3], UINT64_MAX, &ret->epoch) < 0 ||
        fd < 3)
        return -SKATE_EINVAL;
    ret->settings_fd = (int)fd;
    ret->again = true;
    return 0;
}

void rejoin_argv(int fd, uint64_t epoch, char room[REJOIN_ARGS][REJOIN_ARG],
                 char *ret[REJOIN_ARGS + 1]) {
    snprintf(room[0], REJOIN_ARG, "skate-raylet");
    snprintf(room[1], REJOIN_ARG, "--rejoin");
    snprintf(room[2], REJOIN_ARG, "%d", fd);
    snprintf(room[3], REJOIN_ARG, "%llu", (unsigned long long)epoch);
    for (int i = 0; i < REJOIN_ARGS; i++) ret[i] = room[i];
    ret[REJOIN_ARGS] = NULL;
}

int rejoin_keep(const char *line, uint64_t len) {
    int fd = memfd_create("skate-settings", MFD_CLOEXEC);

    if (fd < 0) return -SKATE_ESYS;
    if (pwrite(fd, line, len, 0) == (ssize_t)len) return fd;
    close(fd);
    return -SKATE_ESYS;
}

/* The program by its own name, as far as it still has one: ps and top show it. */
static void own_path(char *ret, size_t cap) {
    ssize_t n = readlink("/proc/self/exe", ret, cap - 1);

    ret[n > 0 ? n : 0] = 0;
    if (access(ret, X_OK) < 0) (void)snprintf(ret, cap, "/proc/self/exe");
}

void node_rejoin(struct raylet *r, const char *why) {
    char path[4096], text[400], room[REJOIN_ARGS][REJOIN_ARG];
    char *argv[REJOIN_ARGS + 1];
    int fd;

    if (r->set.local_session || r->set.outpost || r->set.line_fd <= 0) node_end(r, why);
    snprintf(text, sizeof text, "the cluster has declared node %u dead (%s): what ran on it is "
             "over, it joins anew; shutdown() and init() again", r->node, why);
    procs_tell_drivers(r, 2, text);
    node_clear(r, text);
    fd = fcntl(r->set.line_fd, F_DUPFD, 3); /* without FD_CLOEXEC, that no other child has it */
    own_path(path, sizeof path);
    rejoin_argv(fd, gcs_link_epoch(r), room, argv);
    if (fd >= 0 && lseek(fd, 0, SEEK_SET) == 0) execv(path, argv);
    node_log("cannot execute %s: %s", path, strerror(errno));
    _exit(1);
}
