/* inspect.h - the second part of the interface: what is going on here and elsewhere.
 *
 * As core.h: any thread, no callback, errors the same. Tests: tests/e2e/test_e2e_why.py. */
#ifndef SKATE_CORE_INSPECT_H
#define SKATE_CORE_INSPECT_H

#include "core/core.h"

enum { CORE_WHY_BYTES = 32 << 10 };
/* The executing thread of a job, for the timeline: 0 its arguments are read, 1 the function has
 * returned. Costs nothing for most jobs when there are thousands a second. */
void core_mark(struct core_job *job, int which);

/* Note where a ref that is held was made (its first note stays), and read it again into `out` (""
 * when it is not known). CORE_SITES different texts at most, the others count as one. Only for
 * programs that ask for it: it costs a microsecond. */
enum { CORE_SITES = 4096, CORE_SITE_BYTES = 112 };
void core_note_site(struct core *c, const struct skate_id *id, const char *text);
void core_site(struct core *c, const struct skate_id *id, char out[CORE_SITE_BYTES]);

struct core_why_ask {
    const struct skate_id *ids;
    uint32_t count;
    int64_t timeout_ns; /* for asking other processes; 0: only what is known here */
    int64_t waited_ns;  /* negative, or: this thread has waited for them until now */
};
/* What the ids wait for, along the whole chain. out has CORE_WHY_BYTES: lines "depth end kind node
 * process pid id sentence" parted by tabs (enums of wire/why.h), then "=verdict broken": 0 it
 * moves, 1 deadlock, 2 a demand that no node can meet. BLOCKS. */
SKATE_NODISCARD int core_why(struct core *c, const struct core_why_ask *ask, char *out);

/* core_wait without waiting, and without looking for what has just come: marks the first `need`
 * that are known to be ready, or fewer; how many. Never sleeps. */
uint32_t core_peek(struct core *c, const struct skate_id *ids, uint32_t count, uint32_t need,
                   unsigned flags, uint8_t *ready);

#endif
