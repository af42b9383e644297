/* What the nodes see of the operating system: libuv's handles, clocks, random
 * bytes, the log, and the end of a process. The linker puts these functions in
 * the place of the real ones (--wrap, weak symbols, and before libuv). */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "sync/base/clock.h"
#include "sync/base/log.h"
#include "tests/sim/whole/whole.h"

ssize_t __wrap_getrandom(void *bytes, size_t len, unsigned flags);
void __wrap__exit(int status) __attribute__((noreturn));
void __wrap_log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- clocks ---- */

uint64_t clock_boot_ms(void)
{
    return host_boot_us(world.current) / MS;
}

uint64_t clock_boot_ns(void)
{
    return host_boot_us(world.current) * 1000;
}

/* A turn takes no time here, but is found to have had enough of it now and then. */
bool __wrap_turn_time_is_up(uint64_t until_ns);
bool __wrap_turn_time_is_up(uint64_t until_ns)
{
    return !world.calm && rnd_chance(0.03);
}

uint64_t clock_wall_ns(void)
{
    return (UINT64_C(1700000000) * SECOND + (uint64_t)(world.now + world.current->wall_offset_us)) * 1000;
}

/* ---- libuv ---- */

static void run_async(struct host *h, void *arg, uint64_t number)
{
    uv_async_t *a = arg;

    a->pending = 0;
    a->async_cb(a);
}

int uv_async_init(uv_loop_t *loop, uv_async_t *handle, uv_async_cb cb)
{
    handle->loop = loop;
    handle->async_cb = cb;
    handle->pending = 0;
    return 0;
}

int uv_async_send(uv_async_t *handle)
{
    if (handle->pending)
        return 0;
    handle->pending = 1;
    queue_at(world.now + rnd_range(0, 100), host_of_loop(handle->loop), run_async, handle, 0, NULL);
    return 0;
}

/* handle->timeout: when it is due on its host's clock; handle->repeat: for when
 * the queue holds an item, 0: none. */
static void run_timer(struct host *h, void *arg, uint64_t number);

static void timer_wait(struct host *h, uv_timer_t *t)
{
    int64_t late = world.calm || rnd_chance(0.97) ? rnd_range(0, MS) : rnd_range(0, 200 * MS);

    t->repeat = t->timeout;
    queue_at(host_when_ms(h, t->timeout) + late, h, run_timer, t, t->repeat, NULL);
}

static void run_timer(struct host *h, void *arg, uint64_t number)
{
    uv_timer_t *t = arg;

    if (number != t->repeat)
        return;
    t->repeat = 0;
    if (clock_boot_ms() < t->timeout)
        timer_wait(h, t);
    else
        t->timer_cb(t);
}

int uv_idle_init(uv_loop_t *loop, uv_idle_t *handle)
{
    handle->loop = loop;
    return 0;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *handle)
{
    handle->loop = loop;
    handle->timeout = handle->repeat = 0;
    return 0;
}

int uv_timer_start(uv_timer_t *handle, uv_timer_cb cb, uint64_t timeout, uint64_t repeat)
{
    struct host *h = host_of_loop(handle->loop);

    handle->timer_cb = cb;
    handle->timeout = clock_boot_ms() + timeout;
    if (handle->repeat == 0 || handle->repeat > handle->timeout)
        timer_wait(h, handle);
    return 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb cb)
{
    if (cb != NULL)
        cb(handle);
}

static void work_done(struct host *h, void *arg, uint64_t number)
{
    uv_work_t *w = arg;

    w->after_work_cb(w, 0);
}

static int64_t work_time(void)
{
    return world.calm ? rnd_range(0, 20 * MS) : rnd_range(0, rnd_chance(0.2) ? 2 * SECOND : 50 * MS);
}

static void work_run(struct host *h, void *arg, uint64_t number)
{
    uv_work_t *w = arg;

    w->work_cb(w);
    queue_at(world.now + work_time(), h, work_done, w, 0, NULL);
}

int uv_queue_work(uv_loop_t *loop, uv_work_t *w, uv_work_cb work, uv_after_work_cb after)
{
    w->work_cb = work;
    w->after_work_cb = after;
    if (w->data == w) { /* it owns itself and is of no host: none that is killed leaves it behind */
        work(w);
        after(w, 0);
        return 0;
    }
    queue_at(world.now + work_time(), host_of_loop(loop), work_run, w, 0, NULL);
    return 0;
}

const char *uv_strerror(int error)
{
    return strerror(-error);
}

/* ---- the rest ---- */

ssize_t __wrap_getrandom(void *bytes, size_t len, unsigned flags)
{
    uint8_t *p = bytes;

    (void)flags;
    for (size_t i = 0; i < len; i++)
        p[i] = (uint8_t)rnd();
    return (ssize_t)len;
}

void __wrap__exit(int status)
{
    if (!world.mortal)
        violation("a node ends with status %d outside of its turn", status);
    longjmp(world.death, status != 0 ? status : 1);
}

void __wrap_log_write(enum log_level level, const char *format, ...)
{
    char text[512];
    va_list args;

    if (options.verbose == 0 || (level > LOG_LEVEL_INFO && options.verbose < 2))
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    trace("n%d: %s", world.current != NULL ? world.current->id : 0, text);
}
