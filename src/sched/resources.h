/* resources.h - named amounts in fixed point (1/10000), and their packed form on the wire.
 *
 * Packed: for each entry {i64 amount, u32 name length, name}, padded to 8 bytes. At most
 * RESOURCES_MAX names of at most 63 bytes. Value type; pure; any thread.
 * Tests: tests/unit/sched_policy_test.c. */
#ifndef SKATE_SCHED_RESOURCES_H
#define SKATE_SCHED_RESOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { RESOURCES_MAX = 32, RESOURCE_UNIT = 10000 };

struct resource {
    char name[64];
    int64_t amount;
};
struct resources {
    uint32_t count;
    struct resource v[RESOURCES_MAX];
};

/* 0, -SKATE_EPROTO (malformed) or -SKATE_EFULL. */
SKATE_NODISCARD int resources_unpack(struct resources *r, const void *data, size_t len);
/* Bytes written into out (cap bytes); needs at most RESOURCES_MAX * 80. */
size_t resources_pack(const struct resources *r, void *out, size_t cap);
/* The amount of a name; 0 when absent. */
int64_t resources_amount(const struct resources *r, const char *name);
SKATE_NODISCARD int resources_set(struct resources *r, const char *name, int64_t amount);
/* Does `have` hold at least `want`? On false, *ret_lack (may be NULL) is the first short name. */
bool resources_fit(const struct resources *have, const struct resources *want,
                   const char **ret_lack);
/* have -= want / have += want. Amounts may go below zero (a woken worker takes its CPU back). */
void resources_take(struct resources *have, const struct resources *want);
void resources_give(struct resources *have, const struct resources *want);
/* "1 CPU, 0.5 gpu" into out; for messages. */
const char *resources_text(const struct resources *r, char *out, size_t cap);

#endif
