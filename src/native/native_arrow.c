/* native_arrow.c - a task's result that is an Arrow stream: skate_return_arrow of skate/arrow.h.
 *
 * On the thread that runs the task. Tests: tests/e2e/test_c_arrow.py. */
#include <stdlib.h>

#include "arrow/ipc.h"
#include "native/native_int.h"

int skate_return_arrow(skate_task *t, struct ArrowArrayStream *in) {
    struct skate_error err = {{0}};
    uint8_t *data = NULL;
    size_t len = 0;
    skate_value v;
    int r = arrow_encode(in, &data, &len, &err);

    if (r < 0) return api_fail_of(r, &err);
    v = skate_arrow_bytes(data, len);
    r = skate_return(t, &v);
    free(data);
    return r;
}
