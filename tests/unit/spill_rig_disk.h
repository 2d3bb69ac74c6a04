/* spill_rig_disk.h - what lies in the directories of a rig (spill_rig.h), and what hurts them. */
#ifndef SKATE_TESTS_SPILL_RIG_DISK_H
#define SKATE_TESTS_SPILL_RIG_DISK_H

#include <dirent.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "spill_rig.h"

/* Files in our folder of a directory, and their bytes; folders of sessions there. */
RIG int rig_count(struct rig *r, int dir, uint64_t *bytes, int *folders) {
    struct dirent *entry;
    char path[200];
    int n = 0;
    DIR *d;

    d = opendir(r->paths[dir]);
    while (d && (entry = readdir(d))) *folders += !strncmp(entry->d_name, "skate-spill-", 12);
    if (d) closedir(d);
    snprintf(path, sizeof path, "%s/skate-spill-%016llx", r->paths[dir],
             (unsigned long long)r->nonce);
    d = opendir(path);
    while (d && (entry = readdir(d))) {
        struct stat st;

        if (!strstr(entry->d_name, ".spill") || fstatat(dirfd(d), entry->d_name, &st, 0)) continue;
        n++;
        *bytes += (uint64_t)st.st_blocks * 512;
    }
    if (d) closedir(d);
    return n;
}

RIG int rig_files(struct rig *r, int dir) {
    uint64_t bytes = 0;
    int folders = 0;

    return rig_count(r, dir, &bytes, &folders);
}

RIG int rig_folders(struct rig *r, int dir) {
    uint64_t bytes = 0;
    int folders = 0;

    rig_count(r, dir, &bytes, &folders);
    return folders;
}

RIG uint64_t rig_disk_bytes(struct rig *r) {
    uint64_t bytes = 0;
    int folders = 0;

    for (int i = 0; i < RIG_DIRS; i++) rig_count(r, i, &bytes, &folders);
    return bytes;
}

RIG void rig_until_disk(struct rig *r, uint64_t bytes) {
    struct spill_io_stats stats;

    do {
        loop_run_once(r->loop, 1000);
        spill_io_stats(r->io, &stats);
    } while (stats.disk_bytes > bytes);
}

RIG void rig_until_files(struct rig *r, int files) {
    while (rig_files(r, 0) > files) loop_run_once(r->loop, 10);
}

RIG bool rig_exists(struct rig *r, const char *name) {
    char path[200];

    snprintf(path, sizeof path, "%s/%s", r->paths[0], name);
    return access(path, F_OK) == 0;
}

RIG void rig_block(struct rig *r, int dir) { rig_run(r, "touch %s", r->paths[dir]); }
RIG void rig_unblock(struct rig *r, int dir) { rig_run(r, "rm %s", r->paths[dir]); }

/* A small disk. False: we may not mount. */
RIG bool rig_make_small(struct rig *r, int dir, uint64_t bytes) {
    char options[64];

    snprintf(options, sizeof options, "size=%llu", (unsigned long long)bytes);
    assert_int_equal(mkdir(r->paths[dir], 0700), 0);
    r->mounted[dir] = mount("tmpfs", r->paths[dir], "tmpfs", 0, options) == 0;
    return r->mounted[dir];
}

/* No file may become larger (0: as large as it likes). */
RIG void rig_limit_files(struct rig *r, uint64_t bytes) {
    struct rlimit lim = {bytes ? bytes : RLIM_INFINITY, RLIM_INFINITY};

    (void)r;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
}

#endif
