/* spawn.c - see spawn.h. */
#include "raylet/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

void spawn_init(struct spawning *s, short flags) {
    sigset_t none, usual;

    posix_spawn_file_actions_init(&s->acts);
    posix_spawnattr_init(&s->attr);
    sigemptyset(&none);
    sigfillset(&usual);
    posix_spawnattr_setsigmask(&s->attr, &none);
    posix_spawnattr_setsigdefault(&s->attr, &usual);
    posix_spawnattr_setflags(&s->attr,
                             (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | flags));
    posix_spawn_file_actions_addopen(&s->acts, 0, "/dev/null", O_RDONLY, 0);
}

void spawn_log(struct spawning *s, const char *path) {
    posix_spawn_file_actions_addopen(&s->acts, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&s->acts, 1, 2);
}

int spawn_run(struct spawning *s, pid_t *ret, const char *path, char *const argv[]) {
    int e = posix_spawn(ret, path, &s->acts, &s->attr, argv, environ);

    posix_spawn_file_actions_destroy(&s->acts);
    posix_spawnattr_destroy(&s->attr);
    return e;
}
