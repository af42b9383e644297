#include "sync/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static char log_name[64] = "kvfs";
static enum log_level log_threshold = LOG_LEVEL_INFO;

void log_open(const char *name, enum log_level level)
{
    snprintf(log_name, sizeof log_name, "%s", name);
    log_threshold = level;
}

__attribute__((format(printf, 2, 0))) static void write_line(enum log_level level, const char *fmt,
                                                             va_list args)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    char line[LINE_MAX_BYTES];
    struct timespec now;
    struct tm tm;
    size_t n;
    int k;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &tm);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %s %s: ", now.tv_nsec / 1000000, log_name,
                          words[level]);
    k = vsnprintf(line + n, sizeof line - n - 1, fmt, args);
    if (k > 0)
        n += (size_t)k < sizeof line - n - 1 ? (size_t)k : sizeof line - n - 2;
    line[n++] = '\n';
    /* Nothing sensible can be done when standard error is gone. */
    if (write(STDERR_FILENO, line, n) < 0)
        return;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    va_list args;

    if (level > log_threshold)
        return;
    va_start(args, fmt);
    write_line(level, fmt, args);
    va_end(args);
}
