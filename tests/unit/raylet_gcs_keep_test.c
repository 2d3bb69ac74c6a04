/* raylet_gcs_keep_test.c - what is said again to the GCS after a break: everything that has no
 * answer or no acknowledgement, once, in order. links: base wire store raylet */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/id.h"
#include "raylet/gcs_keep.h"
#include "wire/frame.h"

#define SRC(n) proc_make(3, (n))

struct note {
    struct wire_head head;
    uint64_t value;
};

static void say(struct gcs_keep *k, uint64_t value, uint64_t src, uint32_t call) {
    struct note n = {.head = {.size = sizeof n}, .value = value};

    assert_int_equal(gcs_keep_add(k, &n, sizeof n, src, call), 0);
}

static void send_all(struct gcs_keep *k, const uint64_t *want, uint32_t count, int again) {
    for (uint32_t i = 0; i < count; i++) {
        const struct note *n;

        assert_non_null(k->unsent);
        n = (const struct note *)(const void *)k->unsent->data;
        assert_int_equal(n->value, want[i]);
        if (again >= 0) assert_int_equal((n->head.flags & WIRE_AGAIN) != 0, again);
        gcs_keep_sent(k);
    }
    assert_null(k->unsent);
}

static void acknowledged_and_answered(void **state) {
    struct gcs_keep k = {0};

    (void)state;
    say(&k, 1, 0, 0);
    say(&k, 2, SRC(5), 7);
    say(&k, 3, 0, 0);
    say(&k, 4, SRC(5), 8);
    send_all(&k, (uint64_t[]){1, 2, 3, 4}, 4, 0);
    gcs_keep_got(&k, 3);                 /* 1 and 3 are done, 2 waits for its answer */
    gcs_keep_answered(&k, SRC(5), 8);    /* answered before it is acknowledged */
    gcs_keep_again(&k);
    send_all(&k, (uint64_t[]){2}, 1, 1); /* 4 is done: refused, maybe, and no longer meant */
    gcs_keep_answered(&k, SRC(5), 7);
    gcs_keep_answered(&k, SRC(5), 7);    /* said twice */
    gcs_keep_answered(&k, SRC(6), 7);    /* nobody asked */
    gcs_keep_got(&k, 1);
    assert_null(k.sent.first);
    assert_null(k.asked.first);
    assert_int_equal(k.bytes, 0);
    gcs_keep_release(&k);
}

/* What was never sent is not marked as sent before; what the first break left comes first. */
static void several_breaks(void **state) {
    struct gcs_keep k = {0};

    (void)state;
    say(&k, 1, SRC(1), 1);
    say(&k, 2, 0, 0);
    send_all(&k, (uint64_t[]){1, 2}, 2, 0);
    say(&k, 3, 0, 0); /* not sent */
    gcs_keep_got(&k, 1);
    gcs_keep_again(&k);
    assert_int_equal(((struct wire_head *)(void *)k.sent.first->data)->flags, WIRE_AGAIN);
    assert_int_equal(((struct wire_head *)(void *)k.sent.last->data)->flags, 0);
    send_all(&k, (uint64_t[]){1, 2, 3}, 3, -1);
    gcs_keep_got(&k, 1);
    gcs_keep_again(&k);
    send_all(&k, (uint64_t[]){1, 2, 3}, 3, 1);
    gcs_keep_got(&k, 3);
    assert_non_null(k.asked.first); /* 1 has no answer yet */
    gcs_keep_release(&k);
    assert_int_equal(k.bytes, 0);
}

static void forgotten_and_full(void **state) {
    struct gcs_keep k = {.bytes_max = 4 * sizeof(struct note)};
    struct note n = {.head = {.size = sizeof n}};

    (void)state;
    say(&k, 1, SRC(1), 1);
    say(&k, 2, SRC(2), 1);
    say(&k, 3, SRC(1), 2);
    send_all(&k, (uint64_t[]){1, 2, 3}, 3, 0);
    gcs_keep_got(&k, 2);
    gcs_keep_forget(&k, SRC(1)); /* 1 goes; 3 stays until it is acknowledged */
    say(&k, 4, SRC(2), 1);       /* a call number that is in use: answered for the older one */
    say(&k, 5, 0, 0);
    assert_int_equal(gcs_keep_add(&k, &n, sizeof n, 0, 0), -SKATE_EFULL);
    gcs_keep_again(&k);
    send_all(&k, (uint64_t[]){2, 3, 4, 5}, 4, -1);
    gcs_keep_got(&k, 4);
    gcs_keep_answered(&k, SRC(2), 1);
    assert_int_equal(k.bytes, 0);
    gcs_keep_release(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(acknowledged_and_answered),
        cmocka_unit_test(several_breaks),
        cmocka_unit_test(forgotten_and_full),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
