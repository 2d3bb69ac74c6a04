/* folder_rig.h - a folder of a test's own, emptied when asked. For one test program. */
#ifndef SKATE_TESTS_FOLDER_RIG_H
#define SKATE_TESTS_FOLDER_RIG_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

/* Remove all plain files in it; false when one stays. */
static bool folder_empty(const char *path) {
    DIR *d = opendir(path);
    bool all = d != NULL;
    struct dirent *e;
    char name[512];

    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.') continue;
        (void)snprintf(name, sizeof name, "%s/%s", path, e->d_name);
        all &= unlink(name) == 0;
    }
    if (d) (void)closedir(d);
    return all;
}

#endif
