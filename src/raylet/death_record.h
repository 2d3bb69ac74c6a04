/* death_record.h - why a process died, as text for people: what the raylet knows, in one record.
 *
 * Pure functions but for death_oom_kills(), which reads two small files. Loop thread only. Nothing
 * of a process's environment or command line ever enters a record. */
#ifndef SKATE_RAYLET_DEATH_RECORD_H
#define SKATE_RAYLET_DEATH_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DEATH_TEXT = 1800, /* of a record: with its frame around it still an inline value */
    DEATH_TAIL = 1400, /* of its output */
    DEATH_LINES = 20,
    DEATH_REASON = 320,
};

/* What is remembered of a dead process, for late senders. */
struct death {
    uint64_t proc;
    uint32_t pid;
    int32_t signal, code; /* of the wait status; -1 unknown */
    bool intended;
    uint32_t cause; /* enum memory_cause */
    uint64_t heir; /* who owns what others hold of it; 0: nobody */
    char *text;
};

/* What is collected while it lives. */
struct death_notes {
    char *tail; /* the end of what it printed, DEATH_TAIL bytes at most */
    uint32_t tail_len;
    uint64_t peak_bytes; /* of its memory, once it is dead; 0 unknown */
    char *verdict;       /* why it was ended for want of memory; then all that is said, but for
                            what it printed */
    uint32_t cause;      /* enum memory_cause */
};
void death_notes_output(struct death_notes *n, const char *text, uint32_t len);
void death_notes_release(struct death_notes *n);

struct death_facts {
    bool driver, member, intended;
    uint32_t pid, node;
    int signal, code;
    bool oom; /* the kernel has killed for lack of memory since the last death */
    const char *reason, *node_ip;
    const struct death_notes *notes;
};
void death_record(const struct death_facts *f, char out[DEATH_TEXT]);

/* Processes that the kernel's OOM killer has ended in this raylet's cgroup (where that is not
 * told: on this machine). */
uint64_t death_oom_kills(void);
/* The number after `key` and blanks in a text of such lines; 0 when it is not there. */
uint64_t death_counter(const char *text, const char *key);

#endif
