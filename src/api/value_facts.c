/* value_facts.c - questions about values that need no session. Pure; any thread. */
#include <string.h>

#include "skate/value.h"

size_t skate_dtype_size(uint32_t dtype) {
    static const uint8_t sizes[] = {0, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8, 1, 8, 16, 2};

    return dtype < sizeof sizes ? sizes[dtype] : 0;
}

int64_t skate_tensor_elements(const skate_tensor *t) {
    int64_t size = (int64_t)skate_dtype_size(t->dtype), n = 1;
    bool none = false;

    if (size == 0 || t->ndim > SKATE_DIMS_MAX) return -1;
    for (uint32_t i = 0; i < t->ndim; i++) {
        if (t->shape[i] < 0) return -1;
        if (t->shape[i] == 0) none = true;
    }
    for (uint32_t i = 0; !none && i < t->ndim; i++) {
        if (n > INT64_MAX / 64 / t->shape[i]) return -1;
        n *= t->shape[i];
    }
    return none ? 0 : n;
}

const skate_value *skate_map_find(const skate_value *map, const char *key) {
    size_t n = strlen(key);

    if (map->kind != SKATE_MAP) return NULL;
    for (size_t i = 0; i < map->as.list.count; i++) {
        const skate_value *k = &map->as.list.items[2 * i];

        if (k->kind == SKATE_STR && k->as.s.size == n && memcmp(k->as.s.data, key, n) == 0)
            return k + 1;
    }
    return NULL;
}
