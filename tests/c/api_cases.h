/* What the cases of the C interface's tests share: a check that says where it failed. */
#ifndef API_CASES_H
#define API_CASES_H

#include <skate/actor.h>
#include <skate/group.h>
#include <skate/skate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                                               \
    do {                                                                                       \
        if (!(x)) {                                                                            \
            printf("%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #x,             \
                   skate_last_error());                                                        \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)
/* The call fails with this code, and the words hold that. */
#define FAILS(call, code, words)                                                               \
    do {                                                                                       \
        int fails_ = (call);                                                                   \
        if (fails_ != -(code) || !strstr(skate_last_error(), (words))) {                       \
            printf("%s:%d: %s gave %d: %s\n", __FILE__, __LINE__, #call, fails_,               \
                   skate_last_error());                                                        \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)
#define OK(call) CHECK((call) >= 0)

extern const char *library; /* of api_tasks.c */

static inline int64_t get_int(skate_session *s, skate_ref ref) {
    skate_value v;

    OK(skate_get(s, ref, 30000, &v));
    CHECK(v.kind == SKATE_INT);
    skate_ref_drop(s, ref);
    return v.as.i;
}

void case_values(skate_session *s);
void case_create(skate_session *s);
void case_many(skate_session *s);
void case_errors(skate_session *s);
void case_bad(skate_session *s);
void case_waits(skate_session *s);
void case_threads(skate_session *s);
void case_forks(skate_session *s);
void case_actors(skate_session *s);
void case_leave(skate_session *s);
void case_find(skate_session *s);
void case_full(skate_session *s);
void case_dead(skate_session *s);
void case_hang(skate_session *s);
void case_two(skate_session *s);
void case_crowd(skate_session *s);
void case_python(skate_session *s);
void case_groups(skate_session *s);
void case_events(skate_session *s);

#endif
