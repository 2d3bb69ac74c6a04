/* spill_open.c - see spill_open.h. */
#include "raylet/spill_open.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raylet/spill_dir.h"
#include "raylet/spill_remote.h"

static int open_dirs(struct raylet *r, uint64_t nonce, char *text, struct spill_target **ret,
                     struct skate_error *err) {
    const char *paths[SPILL_DIRS_MAX];
    char list[sizeof r->set.run_dir + 16], *save = NULL;
    struct spill_dirs dirs = {.paths = paths, .nonce = nonce, .list_path = list};
    int e;

    snprintf(list, sizeof list, "%s/spill_folders", r->set.run_dir);
    for (char *p = strtok_r(text, ":", &save); p; p = strtok_r(NULL, ":", &save)) {
        if (dirs.count == SPILL_DIRS_MAX)
            return err_fail(err, -SKATE_EINVAL, "more than %d folders to spill to", SPILL_DIRS_MAX);
        paths[dirs.count++] = p;
    }
    e = spill_dir_new(&dirs, ret, err);
    if (e >= 0 && (uint32_t)e < dirs.count)
        node_log("objects cannot be spilled there: %s", err->text);
    return e < 0 ? e : 0;
}

int spill_open(struct raylet *r, uint64_t nonce, struct spill_target **ret,
               struct skate_error *err) {
    char *text, log[sizeof r->set.run_dir + 16];
    struct spill_remote_start far = {.python = r->set.python, .python_path = r->set.python_path,
                                     .log_path = log, .uris = r->set.spill,
                                     .options = r->set.spill_options, .nonce = nonce};
    int e;

    snprintf(log, sizeof log, "%s/spill.err", r->set.run_dir);
    if (r->set.spill_remote) return spill_remote_new(&far, ret, err);
    text = strdup(r->set.spill);
    if (!text) return err_fail(err, -SKATE_ENOMEM, "out of memory");
    e = open_dirs(r, nonce, text, ret, err);
    free(text);
    return e;
}
