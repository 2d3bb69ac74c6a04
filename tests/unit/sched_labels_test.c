/* sched_labels_test.c - labels of nodes, selectors, and the choice of a node by them.
 * links: base sched. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/labels.h"
#include "sched/policy.h"

static const char NODE[] = "zone=north,team=a-b.c,ray.io/node-id=00ff,empty=";

static void terms(void **state) {
    static const struct {
        const char *selector;
        bool fits;
    } cases[] = {
        {"", true}, {"zone=north", true}, {"zone=south", false}, {"zone=nort", false},
        {"zone=northern", false}, {"zone=south|north", true}, {"zone!north", false},
        {"zone!south", true}, {"zone!south|north", false}, {"absent!x", true},
        {"absent=x", false}, {"zone+", true}, {"zon+", false}, {"absent^", true},
        {"zone^", false}, {"zone=north;team=a-b.c", true}, {"zone=north;team=x", false},
        {"ray.io/node-id=00ff", true}, {"empty=", true}, {"zone=", false},
        {"zone=south\nzone=north", false}, {"zone=north\nzone=south", true}, {"\nzone=x", true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(labels_is_selector(cases[i].selector));
        if (labels_fit(NODE, cases[i].selector) != cases[i].fits)
            fail_msg("%s", cases[i].selector);
    }
    assert_false(labels_fit("", "zone=north"));
    assert_true(labels_fit("", "zone^"));
}

static void malformed(void **state) {
    static const char *const bad[] = {"zone", "=x", ";", "zone=a;", "zone+x", "zone=a=b", "zone=a!",
                                      "zone=a\n;", "!", "+", "zone=a;;zone=b"};
    char out[LABELS_MAX], longest[LABELS_MAX];

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (labels_is_selector(bad[i])) fail_msg("%s", bad[i]);
        (void)labels_fit(NODE, bad[i]); /* it ends, at least */
        (void)labels_text(bad[i], out, 8);
        assert_true(strlen(out) < 8);
    }
    memset(longest, 'x', sizeof longest);
    assert_false(labels_copy(out, longest, LABELS_MAX));
    assert_true(labels_copy(out, longest, LABELS_MAX - 1));
    assert_int_equal(strlen(out), LABELS_MAX - 1);
    assert_false(labels_copy(out, "a\0b", 3));
    assert_string_equal(out, "");
}

static void words(void **state) {
    char out[200];

    (void)state;
    assert_string_equal(labels_text("zone=a|b;gpu+\ncpu!x;disk^\n", out, sizeof out),
                        "zone in (a, b), gpu exists; or cpu not in (x), disk is absent; "
                        "or any node");
    for (size_t cap = 1; cap < 80; cap++) {
        char small[80];

        memset(small, 'z', sizeof small);
        assert_true(strlen(labels_text("zone=a|b;gpu+\ncpu!x;disk^\n", small, cap)) < cap);
    }
}

/* ---- the choice of a node ---- */

static void node(struct sched_view *v, uint32_t number, const char *labels, int64_t avail) {
    struct sched_node *n = sched_view_add(v, number);

    assert_non_null(n);
    n->alive = true;
    assert_int_equal(resources_set(&n->total, "CPU", 4 * RESOURCE_UNIT), 0);
    assert_int_equal(resources_set(&n->avail, "CPU", avail * RESOURCE_UNIT), 0);
    assert_true(labels_copy(n->labels, labels, strlen(labels)));
}

static int pick(struct sched_view *v, const char *labels, uint32_t strategy, uint32_t *ret) {
    struct resources want = {0};
    struct sched_ask ask = {.want = &want, .strategy = strategy, .labels = labels};

    *ret = 0;
    assert_int_equal(resources_set(&want, "CPU", RESOURCE_UNIT), 0);
    return sched_pick(v, &ask, ret);
}

static void choice(void **state) {
    struct sched_view v = {.self = 1};
    struct resources want = {0};
    struct sched_ask ask = {.want = &want, .labels = "zone=nowhere"};
    struct skate_error text;
    uint32_t at;

    (void)state;
    node(&v, 1, "zone=north", 4);
    node(&v, 2, "zone=south,fast=yes", 4);
    node(&v, 3, "zone=south", 0);
    assert_int_equal(pick(&v, "zone=south", SCHED_HYBRID, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(pick(&v, "zone=south", SCHED_SPREAD, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(pick(&v, "zone=south;fast^", SCHED_HYBRID, &at), -SKATE_EAGAIN); /* full */
    assert_int_equal(pick(&v, "zone=nowhere", SCHED_HYBRID, &at), -SKATE_ENOENT);
    assert_int_equal(pick(&v, "zone=nowhere\nzone=south", SCHED_HYBRID, &at), 0);
    assert_int_equal(at, 2);
    assert_int_equal(pick(&v, "zone=south;fast^\nzone=north", SCHED_HYBRID, &at), 0);
    assert_int_equal(at, 1); /* the first alternative is full */
    assert_int_equal(pick(&v, "zone=nowhere\nzone=south;fast^", SCHED_HYBRID, &at), -SKATE_EAGAIN);
    assert_int_equal(pick(&v, "zone=nowhere\n", SCHED_HYBRID, &at), 0);
    assert_int_equal(at, 1);
    sched_explain(&v, &ask, "Task f", &text);
    assert_non_null(strstr(text.text, "Task f needs a node with the labels zone in (nowhere)"));
    ask.labels = "zone=south";
    assert_int_equal(resources_set(&want, "CPU", 9 * RESOURCE_UNIT), 0);
    sched_explain(&v, &ask, "Task f", &text);
    assert_non_null(strstr(text.text, "zone in (south)"));
    assert_non_null(strstr(text.text, "4 CPU"));
    sched_view_release(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(terms), cmocka_unit_test(malformed),
                                       cmocka_unit_test(words), cmocka_unit_test(choice)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
