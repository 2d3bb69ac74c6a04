/* fuzz_settings.c - the lines of settings of both daemons, addresses, keys, labels, selectors and
 * packed resources: each says what is wrong or gives something within its bounds. */
#include "fuzz.h"

#include "gcsd/gcsd_settings.h"
#include "raylet/raylet_settings.h"
#include "sched/labels.h"

#define A_KEY "cluster_key=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static const char *const names[] = {
    "cluster_key", "gcs", "node_ip", "listen_ip", "listen_port", "session_dir", "run_dir", "python",
    "python_path", "resources", "labels", "gpu_names", "arena_bytes", "node_name", "is_head",
    "lifeline", "lifeline_pid", "spill", "spill_options", "spill_remote", "spill_threshold",
    "store_wait_s", "span", "memory_usage_threshold", "min_memory_free_bytes", "tls", "tls_cert",
    "tls_key", "tls_ca", "x"};
static const char *const values[] = {
    "1", "0", "", "-1", "18446744073709551615", "99999999999999999999", "1e400", "nan", "0x7",
    "127.0.0.1:700", "127.0.0.1", "1.2.3.4:0", "CPU:2,GPU:0.5", "CPU:1e14", "CPU:-1", ":", "a=b",
    "none", "/a:/b", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"};
enum { NAMES = sizeof names / sizeof *names, VALUES = sizeof values / sizeof *values };

static uint64_t sum;

/* A line of known names with known values and bytes of the input. */
static size_t make_line(struct fuzz_in *in, char *line, size_t cap) {
    size_t n = (size_t)snprintf(line, cap, "%s", fuzz_below(in, 8) ? A_KEY "\tgcs=127.0.0.1:700"
                                "\tnode_ip=127.0.0.1\trun_dir=/r\tpython=/p" : "");

    for (uint32_t k = fuzz_below(in, 12); k > 0 && n + 700 < cap; k--) {
        n += (size_t)snprintf(line + n, cap - n, "\t%s=", names[fuzz_below(in, NAMES)]);
        if (fuzz_below(in, 2)) {
            n += (size_t)snprintf(line + n, cap - n, "%s", values[fuzz_below(in, VALUES)]);
            continue;
        }
        for (uint32_t i = fuzz_below(in, fuzz_below(in, 8) ? 40 : 600); i > 0; i--) {
            char c = (char)fuzz_bytes(in, 1);

            if (c) line[n++] = c;
        }
    }
    line[n] = 0;
    return n;
}

static void check_resources(struct fuzz_in *in) {
    struct resources r;
    uint8_t packed[RESOURCES_MAX * 80];
    size_t n = in->left < 4096 ? in->left : 4096;
    uint8_t *copy = malloc(n ? n : 1); /* exactly */

    if (!copy) return;
    memcpy(copy, in->p, n);
    if (resources_unpack(&r, copy, (uint32_t)n) == 0) {
        if (r.count > RESOURCES_MAX) abort();
        sum += resources_pack(&r, packed, sizeof packed);
    }
    free(copy);
}

static void check_labels(struct fuzz_in *in) {
    char a[LABELS_MAX], b[LABELS_MAX], text[200];
    size_t n = in->left, half = n / 2;

    sum += labels_copy(a, (const char *)in->p, half < 2000 ? half : 2000);
    sum += labels_copy(b, (const char *)in->p + half, n - half < 2000 ? n - half : 2000);
    if (!labels_is_selector(b)) return;
    for (const char *p = b; p; p = labels_next(p)) sum += labels_fit(a, p);
    if (strlen(labels_text(b, text, sizeof text)) >= sizeof text) abort();
}

static int fuzz_one(const uint8_t *data, size_t len) {
    struct fuzz_in in = {.p = data, .left = len};
    static char line[16384];
    struct raylet_settings ray;
    struct gcsd_settings gcs;
    struct skate_error err = {""};
    uint8_t key[NET_KEY_BYTES];
    char ip[16], copy[16384];
    uint16_t port;
    size_t n;

    switch (fuzz_below(&in, 4)) {
    case 0: check_resources(&in); return 0;
    case 1: check_labels(&in); return 0;
    case 2:
        n = in.left < sizeof line - 1 ? in.left : sizeof line - 1;
        memcpy(line, in.p, n);
        line[n] = 0;
        break;
    default: n = make_line(&in, line, sizeof line);
    }
    memcpy(copy, line, n + 1);
    if (gcsd_settings_parse(copy, &gcs, &err) == 0) sum += strlen(gcs.listen_ip);
    sum += strlen(err.text);
    memcpy(copy, line, n + 1);
    if (raylet_settings_parse(copy, &ray, &err) == 0) {
        if (ray.resources.count > RESOURCES_MAX) abort();
        sum += strlen(ray.labels) + strlen(ray.run_dir) + strlen(ray.node_ip);
        raylet_settings_release(&ray);
    }
    if (net_parse_address(line, ip, &port) == 0) sum += port + strlen(ip);
    if (net_key_from_hex(line, n, key) == 0) sum += key[0];
    return 0;
}
