/* arrow_values.c - Arrow streams as values: include/skate/arrow.h, on src/arrow.
 *
 * Any thread. Tests: tests/e2e/test_c_arrow.py. */
#include <stdlib.h>

#include "api/api_int.h"
#include "arrow/ipc.h"

int skate_put_arrow(skate_session *s, struct ArrowArrayStream *in, skate_ref *ret) {
    struct skate_error err = {{0}};
    uint8_t *data = NULL;
    size_t len = 0;
    skate_value v;
    int r = arrow_encode(in, &data, &len, &err);

    if (r < 0) return api_fail_of(r, &err);
    v = skate_arrow_bytes(data, len);
    r = skate_put(s, &v, ret);
    free(data);
    return r;
}

/* The stream of a value; hold: see arrow_decode_held(). */
static int open_held(const skate_value *v, struct arrow_hold *hold, struct ArrowArrayStream *out) {
    struct skate_error err = {{0}};
    int r;

    if (!v || !out) return api_fail(-SKATE_EINVAL, "a value and a stream are needed");
    if (v->kind == SKATE_OPAQUE)
        return api_fail(-SKATE_ETYPE, "the value is a pickle that only Python reads: store it "
                        "there with cross_language.put(), or return it from its task through "
                        "cross_language.plain()");
    if (v->kind != SKATE_ARROW)
        return api_fail(-SKATE_ETYPE, "the value is no Arrow stream but of kind %u", v->kind);
    r = arrow_decode_held(v->as.s.data, v->as.s.size, hold, out, &err);
    return r < 0 ? api_fail_of(r, &err) : 0;
}

int skate_arrow_open(const skate_value *v, struct ArrowArrayStream *out) {
    return open_held(v, NULL, out);
}

struct kept {
    struct arrow_hold hold;
    skate_session *s;
    skate_value v;
};

static void kept_end(struct arrow_hold *hold) {
    struct kept *k = (struct kept *)(void *)hold;

    skate_release(k->s, &k->v);
    free(k);
}

int skate_get_arrow(skate_session *s, skate_ref ref, int64_t timeout_ms,
                    struct ArrowArrayStream *out) {
    struct kept *k = calloc(1, sizeof *k);
    int r;

    if (!k) return api_fail(-SKATE_ENOMEM, "out of memory");
    *k = (struct kept){.hold = {.count = 1, .end = kept_end}, .s = s};
    r = skate_get(s, ref, timeout_ms, &k->v);
    if (r < 0) return free(k), r;
    r = open_held(&k->v, &k->hold, out);
    if (r < 0) arrow_hold_drop(&k->hold);
    return r;
}
