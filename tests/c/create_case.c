/* Values that are filled where they will lie: skate_create(), skate_seal(), skate_discard(). */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>

#include "api_cases.h"

static void one_tensor(skate_session *s, int64_t rows) {
    skate_tensor t = {.dtype = SKATE_F32, .ndim = 2, .shape = {rows, 3}};
    skate_value like = skate_of_tensor(&t), got;
    skate_ref ref;
    float *data;

    OK(skate_create(s, &like, (void **)&data));
    CHECK(((uintptr_t)data & 63) == 0);
    for (int64_t i = 0; i < rows * 3; i++) data[i] = (float)i;
    OK(skate_seal(s, data, &ref));
    FAILS(skate_seal(s, data, &ref), SKATE_EINVAL, "skate_create");
    OK(skate_get(s, ref, 10000, &got));
    CHECK(got.kind == SKATE_TENSOR && got.as.tensor->ndim == 2);
    CHECK(got.as.tensor->shape[0] == rows && got.as.tensor->shape[1] == 3);
    for (int64_t i = 0; i < rows * 3; i++)
        CHECK(((const float *)got.as.tensor->data)[i] == (float)i);
    skate_ref_drop(s, ref);
    skate_release(s, &got);
}

static void one_of_bytes(skate_session *s, size_t size) {
    skate_value like = skate_bytes(NULL, size), got;
    skate_ref ref;
    char *data;

    OK(skate_create(s, &like, (void **)&data));
    memset(data, 'x', size);
    OK(skate_seal(s, data, &ref));
    OK(skate_get(s, ref, 10000, &got));
    CHECK(got.kind == SKATE_BYTES && got.as.s.size == size);
    for (size_t i = 0; i < size; i += 997) CHECK(got.as.s.data[i] == 'x');
    skate_release(s, &got);
    skate_ref_drop(s, ref);
}

static sigjmp_buf refused;
static void on_fault(int signal) { siglongjmp(refused, signal); }

/* After the seal the address is nobody's: a write through it does not reach the stored value. */
static void no_write_later(skate_session *s) {
    struct sigaction act = {.sa_handler = on_fault}, before;
    skate_value like = skate_bytes(NULL, 1 << 20), got;
    skate_ref ref;
    volatile char *data;
    void *at;

    OK(skate_create(s, &like, &at));
    data = at;
    memset(at, 1, 1 << 20);
    OK(skate_seal(s, at, &ref));
    CHECK(sigaction(SIGSEGV, &act, &before) == 0);
    if (sigsetjmp(refused, 1) == 0) {
        data[5000] = 9;
        CHECK(!"written");
    }
    CHECK(sigaction(SIGSEGV, &before, NULL) == 0);
    OK(skate_get(s, ref, 10000, &got));
    CHECK(got.as.s.data[5000] == 1);
    skate_release(s, &got);
    skate_ref_drop(s, ref);
}

static void *many(void *arg) {
    skate_session *s = arg;

    for (int i = 0; i < 30; i++) {
        skate_value like = skate_bytes(NULL, (size_t)(100000 + i * 5000)), got;
        skate_ref ref;
        void *data;

        OK(skate_create(s, &like, &data));
        memset(data, i, like.as.s.size);
        if (i % 3 == 0) {
            skate_discard(s, data);
            continue;
        }
        OK(skate_seal(s, data, &ref));
        OK(skate_get(s, ref, 10000, &got));
        CHECK(got.as.s.size == like.as.s.size && got.as.s.data[99999] == i);
        skate_release(s, &got);
        skate_ref_drop(s, ref);
    }
    return NULL;
}

void case_create(skate_session *s) {
    skate_tensor wrong = {.dtype = 99, .ndim = 1, .shape = {3}};
    skate_value like = skate_int(3), mine;
    skate_ref ref;
    pthread_t threads[3];
    char other[8];
    void *data;

    one_tensor(s, 0);
    one_tensor(s, 10);
    one_tensor(s, 100000);
    one_of_bytes(s, 0);
    one_of_bytes(s, 1000);
    one_of_bytes(s, 65536);
    one_of_bytes(s, 65537);
    one_of_bytes(s, 5000000);
    no_write_later(s);
    FAILS(skate_create(s, &like, &data), SKATE_ETYPE, "skate_put");
    like = skate_of_tensor(&wrong);
    FAILS(skate_create(s, &like, &data), SKATE_EINVAL, "dtype");
    like = skate_bytes(NULL, (size_t)1 << 45);
    FAILS(skate_create(s, &like, &data), SKATE_EFULL, "");
    like = skate_bytes(NULL, SIZE_MAX);
    FAILS(skate_create(s, &like, &data), SKATE_EFULL, "");
    FAILS(skate_create(s, NULL, &data), SKATE_EINVAL, "NULL");
    FAILS(skate_seal(s, other, &ref), SKATE_EINVAL, "skate_create");
    skate_discard(s, NULL);
    skate_discard(s, other);
    for (int i = 0; i < 40; i++) { /* 4 GB in all: what is discarded is used again */
        like = skate_bytes(NULL, 100 << 20);
        OK(skate_create(s, &like, &data));
        skate_discard(s, data);
    }
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, many, s) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_join(threads[i], NULL) == 0);
    like = skate_bytes(NULL, 1 << 20); /* one is left open when the session ends */
    OK(skate_create(s, &like, &data));
    like = skate_bytes(NULL, 100);
    OK(skate_create(s, &like, &data));
    mine = skate_nil();
    skate_release(s, &mine);
}
