/* prio.c - see prio.h. Sums of 16 in a fixed order of lanes: the same bytes on every machine. */
#include "rl/replay/prio.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FAN = 16, LANES = 4, BATCH = 512 };

typedef float lanes __attribute__((vector_size(16)));
typedef int32_t flags __attribute__((vector_size(16)));

/* n zeros on 64 bytes, whose pages stay untouched until somebody writes: aligned_alloc() and a
 * memset would touch them all. What calloc() gave is noted just before the array. */
static int array_new(float **ret, size_t n) {
    float *block = calloc(n + 2 * FAN, sizeof(float)), *at;

    if (!block)
        return -SKATE_ENOMEM;
    at = (float *)(((uintptr_t)(block + 2) + 63u) & ~(uintptr_t)63u);
    memcpy(at - 2, &block, sizeof(block));
    *ret = at;
    return 0;
}

static void array_free(float *at) {
    float *block;

    if (!at)
        return;
    memcpy(&block, at - 2, sizeof(block));
    free(block);
}

int prio_init(struct prio *p, uint64_t places) {
    uint64_t n = places;
    int r = 0;

    memset(p, 0, sizeof(*p));
    if (places == 0 || places > (uint64_t)1 << 31)
        return -SKATE_EINVAL;
    for (p->levels = 0; r == 0; n = (n + FAN - 1) / FAN) {
        int l = p->levels++;

        p->nodes[l] = (uint32_t)((n + FAN - 1) / FAN * FAN);
        r = array_new(&p->sum[l], p->nodes[l]);
        if (r == 0 && l > 0) {
            r = array_new(&p->min[l], p->nodes[l]);
            p->mark[l] = calloc(p->nodes[l], 1);
            if (!p->mark[l])
                r = -SKATE_ENOMEM;
            for (uint32_t i = 0; r == 0 && i < p->nodes[l]; i++)
                p->min[l][i] = INFINITY;
        }
        if (l > 0 && n == 1)
            break;
    }
    if (r < 0)
        prio_release(p);
    return r;
}

void prio_release(struct prio *p) {
    for (int l = 0; l < PRIO_LEVELS; l++) {
        array_free(p->sum[l]);
        array_free(p->min[l]);
        free(p->mark[l]);
    }
    memset(p, 0, sizeof(*p));
}

static float sum16(const float *x) {
    lanes v[4];

    memcpy(v, x, sizeof(v));
    v[0] = (v[0] + v[1]) + (v[2] + v[3]);
    return (v[0][0] + v[0][1]) + (v[0][2] + v[0][3]);
}

static lanes least(lanes a, lanes b) {
    flags m = a < b;

    return (lanes)(((flags)a & m) | ((flags)b & ~m));
}

/* The least of 16; `empty`: zeros do not count. */
static float min16(const float *x, int empty) {
    const lanes zero = { 0, 0, 0, 0 }, top = { INFINITY, INFINITY, INFINITY, INFINITY };
    float a, b;
    lanes v[4];

    memcpy(v, x, sizeof(v));
    for (int i = 0; empty && i < 4; i++) {
        flags m = v[i] == zero;

        v[i] = (lanes)(((flags)top & m) | ((flags)v[i] & ~m));
    }
    v[0] = least(least(v[0], v[1]), least(v[2], v[3]));
    a = v[0][0] < v[0][1] ? v[0][0] : v[0][1];
    b = v[0][2] < v[0][3] ? v[0][2] : v[0][3];
    return a < b ? a : b;
}

/* The parents of n nodes into `list`, each once; `list` may be `from`. */
static uint32_t parents(uint8_t *mark, const uint32_t *from, uint32_t n, uint32_t *list) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t parent = from[i] / FAN;

        if (!mark[parent]) {
            mark[parent] = 1;
            list[count++] = parent;
        }
    }
    return count;
}

static void set_batch(struct prio *p, const uint32_t *rows, const float *values, uint32_t n) {
    const uint32_t *from = rows;
    uint32_t list[BATCH];

    for (uint32_t i = 0; i < n; i++)
        p->sum[0][rows[i]] = values[i];
    for (int l = 1; l < p->levels; l++) {
        n = parents(p->mark[l], from, n, list);
        from = list;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = list[i];
            size_t child = (size_t)at * FAN;

            p->sum[l][at] = sum16(p->sum[l - 1] + child);
            p->min[l][at] = min16((l == 1 ? p->sum[0] : p->min[l - 1]) + child, l == 1);
            p->mark[l][at] = 0;
        }
    }
}

void prio_set(struct prio *p, const uint32_t *rows, const float *values, size_t n) {
    for (size_t at = 0; at < n; at += BATCH)
        set_batch(p, rows + at, values + at, n - at < BATCH ? (uint32_t)(n - at) : BATCH);
}

/* Which of four the target falls into; takes off it what lies before. No branches: they would be
 * mispredicted nearly always. */
static uint32_t among(const double g[LANES], double *target) {
    double a = g[0], b = a + g[1], c = b + g[2], t = *target;
    uint32_t pa = t >= a, pb = t >= b, pc = t >= c;

    *target = t - (pc ? c : pb ? b : pa ? a : 0.0);
    return pa + pb + pc;
}

uint32_t prio_find(const struct prio *p, double target) {
    uint32_t at = 0;

    for (int l = p->levels - 2; l >= 0; l--) {
        const float *x = p->sum[l] + (size_t)at * FAN;
        double g[LANES];
        uint32_t block;

        for (int i = 0; i < LANES; i++)
            g[i] = ((double)x[4 * i] + (double)x[4 * i + 1]) +
                   ((double)x[4 * i + 2] + (double)x[4 * i + 3]);
        block = among(g, &target);
        for (uint32_t i = 0; i < LANES; i++)
            g[i] = (double)x[LANES * block + i];
        at = at * FAN + LANES * block + among(g, &target);
    }
    return at;
}
