#include "kvnode/loop/remove.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct last_close {
    uv_work_t work;
    int fd;
};

static void on_last_close(uv_work_t *work) /* a worker */
{
    struct last_close *x = work->data;

    close(x->fd);
}

static void on_last_closed(uv_work_t *work, int status)
{
    free(work->data);
}

void remove_file_later(uv_loop_t *loop, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct last_close *x = fd >= 0 ? malloc(sizeof *x) : NULL;

    unlink(path);
    if (x != NULL) {
        *x = (struct last_close){.work.data = x, .fd = fd};
        if (uv_queue_work(loop, &x->work, on_last_close, on_last_closed) == 0)
            return;
    }
    free(x);
    if (fd >= 0)
        close(fd);
}
