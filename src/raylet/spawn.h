/* spawn.h - start a program of this node: no signal blocked or ignored, nothing to read, and only
 * the descriptors that were named.
 *
 *     struct spawning s;
 *     spawn_init(&s, 0);
 *     posix_spawn_file_actions_adddup2(&s.acts, fd, 3);
 *     e = spawn_run(&s, &pid, path, argv);
 *
 * Used by forks.c (the zygote), natives.c, spill_remote.c. Any thread. */
#ifndef SKATE_RAYLET_SPAWN_H
#define SKATE_RAYLET_SPAWN_H

#include <spawn.h>
#include <sys/types.h>

struct spawning {
    posix_spawn_file_actions_t acts;
    posix_spawnattr_t attr;
};

/* flags: of posix_spawnattr_setflags(), beside what this does. */
void spawn_init(struct spawning *s, short flags);
/* Its output and its errors go to the end of that file. */
void spawn_log(struct spawning *s, const char *path);
/* Start it in our environment; 0, or an errno. Releases `s` in either case. */
int spawn_run(struct spawning *s, pid_t *ret, const char *path, char *const argv[]);

#endif
